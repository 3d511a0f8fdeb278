"""Protocols made of a data set's own index."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rig3r_jax.data.sampling import draw_frames
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Source
from rig3r_jax.evaluation.protocol import Protocol, ProtocolSample, Rules

_DIGITS = 6, 4  # of seconds on the data set's clock, and since a sample's first frame


def make_protocol(
    name: str,
    kind: str,
    source: Source,
    split: str,
    rules: Rules,
    seed: int = 0,
    scenes: int | None = None,
    tell: Callable[[str], Any] = lambda line: None,
) -> Protocol:
    """Draws the samples of a split, each a function of the seed, the scene's name and its number alone.

    Args:
        name: of the protocol.
        kind, source: the data set, and its name in `data.sources`.
        split: of the data set.
        rules: how samples are drawn.
        seed: of the draws.
        scenes: take as many of the split, spread evenly; None: all.
        tell: hears of every scene that is left out.

    Raises:
        ValueError: no scene has a sample, or `rules.unseen_in` asks for what the data set's index does not tell.
    """
    listed = source.scenes(split)
    left_out = _seen_rigs(source, split, rules.unseen_in, [scene for scene, _ in listed])
    listed = [(scene, load) for scene, load in listed if scene not in left_out]
    if scenes is not None and scenes < len(listed):
        listed = [listed[row] for row in np.linspace(0, len(listed) - 1, scenes).round().astype(int)]
    samples, remedy, draw = [], "", _draw_options(rules)
    for scene_name, load in listed:
        try:
            scene = load()
            numbers = range(rules.samples_per_scene)
            samples += [drawn_sample(scene, scene_name, draw, seed, number) for number in numbers]
        except BadRecord as error:
            remedy = remedy or str(error)
            left_out[scene_name] = str(error).partition("; ")[0]  # without what to do about it
    for reason in left_out.values():
        tell(f"left out: {reason}")
    if not samples:
        reason = remedy or next(iter(left_out.values()), "it lists none")
        raise ValueError(f"{split} of {kind}: none of its {len(left_out)} scenes has a sample; the first: {reason}")
    return Protocol(name, kind, split, source.options(), seed, rules, tuple(samples), left_out)


def _seen_rigs(source: Source, split: str, training: str, scenes: Sequence[str]) -> dict[str, str]:
    """The scenes of a split whose rig is in another split too, or is not told, and why they are left out."""
    if not training:
        return {}
    source.check_split(training)
    rigs, seen = source.rigs(split), set(source.rigs(training).values())
    if not rigs or not seen:
        raise ValueError(
            f"{source.root}: does not tell the rigs of {split} and {training} apart; make the protocol without "
            "--unseen-in: a whole data set that no training has seen has unseen rigs"
        )
    left_out = {}
    for scene in scenes:
        drives = [drive for drive in rigs if scene == drive or scene.startswith(f"{drive}_")]
        if not drives:
            left_out[scene] = f"scene {scene}: its rig is not told"
        elif (rig := rigs[max(drives, key=len)]) in seen:  # the longest: drive_1 begins the name of drive_1_2 too
            left_out[scene] = f"scene {scene}: its rig {rig} is one of the {len(seen)} of {training}"
    return left_out


def _draw_options(rules: Rules) -> dict[str, Any]:
    names = ("max_cameras", "min_cameras", "max_stride", "min_seconds", "max_seconds")
    return {"num_views": rules.views, **{name: getattr(rules, name) for name in names}}


def drawn_sample(scene: Scene, name: str, draw: Mapping[str, Any], seed: int, number: int) -> ProtocolSample:
    """Sample `number` of a scene, by the arguments `draw` of `draw_frames`; BadRecord where the scene is too small."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    rows = draw_frames(scene, rng, **draw)
    frames = [scene.frames[row] for row in rows]
    clock, since = _DIGITS
    start = round(float(frames[0].time), clock)
    entries = (
        (scene.cameras[frame.camera].name, frame.step, round(float(frame.time) - start, since) + 0.0)  # no -0.0
        for frame in frames
    )
    return ProtocolSample(name, number, start, tuple(entries))
