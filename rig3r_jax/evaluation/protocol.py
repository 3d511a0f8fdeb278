"""A protocol of rig poses as a file: which frames of which scenes a system is shown, what it may be told, the rules.

    {"schema": "rig3r-protocol", "version": 1,
     "name": "procedural_unseen_rigs", "source": "procedural", "split": "unseen_rigs", "options": {...}, "seed": 0,
     "rules": {"views": 24, ..}       see `Rules`
     "settings": {"none": [], "rig": ["rig"], ..}     what each setting tells beside the images
     "samples": [{"name": "unseen_rigs-000000.0", "scene": "unseen_rigs-000000",
                  "frames": [["front", 3, 1.5021], ..]}, ..]       camera, time step, seconds on the data set's clock;
                                                                the first is the reference, the others are in no order
     "left_out": {scene: why}         scenes of the split that have no sample
     "sha256": "..."}                 of all of the above: a list that somebody has changed is another protocol

The frames' images are CAMERA/STEP with six digits and any suffix, and predictions are a scene per sample (a folder or a
file, see `systems.read`) named after it, whose images are named so.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig3r_jax.data.image_names import match_names
from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.evaluation.systems.read import read_scene
from rig3r_jax.evaluation.systems.score import scenes_of
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import plain, read_json

SCHEMA, VERSION = "rig3r-protocol", 1
PARTLY_KNOWN = "partly known rig"  # of every second camera of a sample, in the order of their names, the rig is told
PROTOCOL_SETTINGS = {name: sorted(SETTINGS[name]) for name in ("none", "camera", "time", "rig", "all")} | {
    PARTLY_KNOWN: ["rig of every second camera by name"]
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """How samples are drawn, and how predictions of them are scored."""

    views: int = 24  # images of a sample
    min_cameras: int = 1
    max_cameras: int = 8
    max_stride: int = 4  # time steps between two of a sample
    samples_per_scene: int = 1
    min_baseline: float = 0.1  # metres; nearer pairs have no direction
    align: str = "sim3"
    missing: str = "fail"


@dataclasses.dataclass(frozen=True)
class ProtocolSample:
    """What a system is shown at once."""

    name: str
    scene: str
    frames: tuple[tuple[str, int, float], ...]  # camera, time step, seconds

    @property
    def images(self) -> tuple[str, ...]:
        """Names without suffixes, in the order of the frames."""
        return tuple(image_name(camera, step) for camera, step, _ in self.frames)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Lists and rules; `sha256` says whether two are the same."""

    name: str
    source: str
    split: str
    options: Mapping[str, Any]
    seed: int
    rules: Rules
    samples: tuple[ProtocolSample, ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """As the file holds it, without the hash."""
        fields = plain(dataclasses.asdict(self))
        return {"schema": SCHEMA, "version": VERSION, "settings": PROTOCOL_SETTINGS, **fields}

    @property
    def sha256(self) -> str:
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def image_name(camera: str, step: int) -> str:
    """Of a frame, without its suffix."""
    return f"{camera}/{step:06d}"


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Writes what `read_protocol` reads; the frames of a sample stand on one line."""
    content = protocol.content | {"sha256": protocol.sha256}
    samples = ",\n  ".join(json.dumps(sample) for sample in content["samples"])
    head = json.dumps(content | {"samples": []}, indent=1, allow_nan=False)
    text = head.replace('"samples": []', f'"samples": [\n  {samples}\n ]')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (text + "\n").encode())


def read_protocol(path: Path) -> Protocol:
    """ValueError naming the file: none of its kind, or changed since it was made."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("version") != VERSION:
        raise ValueError(
            f'{path}: is no protocol ("schema": "{SCHEMA}", version {VERSION}); give a file of make-protocol'
        )
    try:
        protocol = Protocol(
            name=content["name"],
            source=content["source"],
            split=content["split"],
            options=content["options"],
            seed=content["seed"],
            rules=Rules(**content["rules"]),
            samples=tuple(
                ProtocolSample(
                    one["name"], one["scene"], tuple((str(c), int(s), float(t)) for c, s, t in one["frames"])
                )
                for one in content["samples"]
            ),
            left_out=content["left_out"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: does not follow the schema ({error!r}); make it again") from error
    if content.get("sha256") != protocol.sha256:
        raise ValueError(
            f"{path}: was changed since it was made: its sha256 is not that of its lists; restore the file"
        )
    return protocol


def _sample(entry: dict[str, Any]) -> ProtocolSample:
    frames = tuple((str(camera), int(step), float(seconds)) for camera, step, seconds in entry["frames"])
    return ProtocolSample(entry["name"], entry["scene"], frames)


def problems_of(protocol: Protocol, predictions: Path) -> list[str]:
    """Why a folder of predictions does not answer a protocol, a line each; [] where it does.

    Images without a pose are no problem, but failures (`Rules.missing`); images that were not asked for are.
    """
    scenes, problems = scenes_of(predictions), []
    names = {sample.name for sample in protocol.samples}
    missing = [sample.name for sample in protocol.samples if sample.name not in scenes]
    if missing:
        problems.append(f"{predictions}: lacks {len(missing)} of {len(names)} samples, such as {missing[0]}")
    if others := [name for name in scenes if name not in names]:
        problems.append(f"{predictions}: {len(others)} scenes are no samples of {protocol.name}, such as {others[0]}")
    for sample in protocol.samples:
        if sample.name in scenes:
            problems += _problems(sample, scenes[sample.name])
    return problems


def _problems(sample: ProtocolSample, path: Path) -> list[str]:
    try:
        scene = read_scene(path)
        if scene.names is None:
            return [f"{path}: {scene.kind} does not name its images; write cameras.json, COLMAP or transforms.json"]
        # Names of the list have no suffix, which a file's may have.
        matched = match_names(sample.images, [_suffixed(name) for name in scene.names], path)
    except ValueError as error:
        return [str(error)]
    if strangers := len(scene.names) - len(matched):
        known = set(matched.values())
        first = next(name for name in scene.names if _suffixed(name) not in known)
        return [f"{path}: {strangers} images are none of the sample {sample.name}, such as {first}"]
    return []


def _suffixed(name: str) -> str:
    return name if re.search(r"\.\w{1,5}$", name) else f"{name}.jpg"
