"""Protocols made of a data set's own index, and the images and the truth of one, for whoever has the data."""

import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rig3r_jax.data.sampling import draw_frames
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Source
from rig3r_jax.evaluation.protocol import Protocol, ProtocolSample, Rules, image_name
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

TRUTH, IMAGES = "truth", "images"


def make_protocol(
    name: str,
    kind: str,
    source: Source,
    split: str,
    rules: Rules,
    seed: int = 0,
    scenes: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
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
        ValueError: no scene has a sample.
    """
    listed = source.scenes(split)
    if scenes is not None and scenes < len(listed):
        listed = [listed[row] for row in np.linspace(0, len(listed) - 1, scenes).round().astype(int)]
    samples, left_out = [], {}
    for scene_name, load in listed:
        try:
            scene = load()
            for number in range(rules.samples_per_scene):
                rng = np.random.default_rng([seed, zlib.crc32(scene_name.encode()), number])
                drawn = draw_frames(
                    scene,
                    rng,
                    rules.views,
                    rules.max_cameras,
                    min_cameras=rules.min_cameras,
                    max_stride=rules.max_stride,
                )
                samples.append(_sample(scene, scene_name, number, drawn))
        except BadRecord as error:
            left_out[scene_name] = str(error)
            tell(f"left out: {error}")
    if not samples:
        raise ValueError(
            f"{split} of {kind}: none of its {len(listed)} scenes has a sample; {next(iter(left_out.values()), '')}"
        )
    return Protocol(name, kind, split, source.options(), seed, rules, tuple(samples), left_out)


def write_data(protocol: Protocol, source: Source, out: Path) -> int:
    """Writes out/truth/SAMPLE/cameras.json and out/images/SAMPLE/CAMERA/STEP.* of every sample; how many.

    ValueError where the data is not that of the protocol: a scene or a frame is not there, or has another time.
    """
    loaders = dict(source.scenes(protocol.split))
    by_scene: dict[str, list[ProtocolSample]] = {}
    for sample in protocol.samples:
        by_scene.setdefault(sample.scene, []).append(sample)
    for name, samples in by_scene.items():
        if name not in loaders:
            raise ValueError(
                f"{source.root or protocol.source}: has no scene {name} in {protocol.split}; give the data that "
                f"{protocol.name} was made of"
            )
        scene = loaders[name]()
        for sample in samples:
            rows = rows_of(scene, sample, protocol.name)
            (out / TRUTH / sample.name).mkdir(parents=True, exist_ok=True)
            names = [_write_image(scene, row, out / IMAGES / sample.name) for row in rows]
            truth = _truth(scene, rows, names, f"../../{IMAGES}/{sample.name}")
            write_cameras(out / TRUTH / sample.name / "cameras.json", truth)
    return len(protocol.samples)


def _sample(scene: Scene, scene_name: str, number: int, drawn: Sequence[int]) -> ProtocolSample:
    frames = tuple(
        (scene.cameras[frame.camera].name, frame.step, round(float(frame.time), 6))
        for frame in (scene.frames[row] for row in drawn)
    )
    return ProtocolSample(f"{scene_name.replace('/', '_')}.{number}", scene_name, frames)


def rows_of(scene: Scene, sample: ProtocolSample, protocol: str) -> list[int]:
    """The frames of a sample in its scene; ValueError where one is not there, or was taken at another time."""
    rows = {(scene.cameras[frame.camera].name, frame.step): row for row, frame in enumerate(scene.frames)}
    found = []
    for camera, step, seconds in sample.frames:
        row = rows.get((camera, step))
        if row is None or abs(scene.frames[row].time - seconds) > 1e-3:
            image = image_name(camera, step)
            state = (
                "is not there" if row is None else f"was taken at {scene.frames[row].time:.6f} s, not {seconds:.6f} s"
            )
            raise ValueError(
                f"scene {scene.name}: its image {image} {state}; {protocol} was made of another version of this data"
            )
        found.append(row)
    return found


def _write_image(scene: Scene, row: int, folder: Path) -> str:
    """The image as the data set has it; its name below the folder."""
    frame = scene.frames[row]
    with Image.open(io.BytesIO(frame.image)) as image:
        suffix = {"JPEG": ".jpg", "PNG": ".png"}.get(image.format, f".{image.format.lower()}")
    name = f"{image_name(scene.cameras[frame.camera].name, frame.step)}{suffix}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(frame.image)
    return name


def _truth(scene: Scene, rows: Sequence[int], names: Sequence[str], image_folder: str) -> Reconstruction:
    cameras = tuple(
        PhysicalCamera(number, camera.name, camera.lens, camera.rig_from_camera)
        for number, camera in enumerate(scene.cameras)
    )
    first = scene.frames[rows[0]].time
    images = tuple(
        PosedImage(
            name=name,
            width=scene.cameras[frame.camera].size[1],
            height=scene.cameras[frame.camera].size[0],
            lens=scene.cameras[frame.camera].lens,
            world_from_camera=frame.world_from_camera,
            camera=frame.camera,
            time=frame.time - first,
        )
        for name, frame in zip(names, (scene.frames[row] for row in rows), strict=True)
    )
    return Reconstruction(images, cameras, frame="the scene's world", image_folder=image_folder)
