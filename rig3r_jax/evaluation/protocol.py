"""A protocol of rig poses as a file: which frames of which scenes a system is shown, what it may be told, the rules.

    {"schema": "rig3r-protocol", "version": 2,
     "name": "nuscenes_val", "source": "nuscenes", "split": "val", "options": {...}, "seed": 0,
     "rules": {"views": 24, ..}       see `Rules`
     "settings": {"none": [], "rig": ["rig"], ..}     what each setting tells beside the images
     "samples": [{"scene": "scene-0003", "number": 0, "cameras": ["CAM_BACK", "CAM_FRONT"],
                  "start": 1538984233.547259,         seconds of the first frame, on the data set's clock
                  "frames": [[1, 4, 0.0], ..]}, ..]   camera (its place in the list), time step, seconds since `start`;
                                                      the first is the reference, the others are in no order
     "left_out": {scene: why}         scenes of the split that have no sample
     "sha256": "..."}                 of all of the above: a list that somebody has changed is another protocol

Pairs are not stored: those of a sample are all of its images, two by two, and `Rules.min_baseline` says which of them
have a direction. The frames' images are CAMERA/STEP with six digits and any suffix, and predictions are a scene per
sample (a folder or a file, see `systems.read`) named after it, whose images are named so (see `submission`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import plain, read_json
from rig3r_jax.formats.plain_name import check_plain_name

SCHEMA, VERSION = "rig3r-protocol", 2
PARTLY_KNOWN = "partly known rig"  # of every second camera of a sample, in the order of their names, the rig is told
PROTOCOL_SETTINGS = {name: sorted(SETTINGS[name]) for name in ("none", "camera", "time", "rig", "all")} | {
    PARTLY_KNOWN: ["rig of every second camera by name"]
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """How samples are drawn, and how predictions of them are scored. ValueError for a range that holds nothing."""

    views: int = 24  # images of a sample
    min_cameras: int = 1
    max_cameras: int = 8
    max_stride: int = 4  # time steps between two of a sample
    min_seconds: float = 0.0  # between two time steps of a sample, in place of max_stride where max_seconds is not 0
    max_seconds: float = 0.0
    samples_per_scene: int = 1
    unseen_in: str = ""  # a split whose rigs no scene of the protocol may have; "": any rig
    min_baseline: float = 0.1  # metres; nearer pairs have no direction
    align: str = "sim3"
    missing: str = "fail"

    def __post_init__(self) -> None:
        for kind in ("cameras", "seconds"):
            least, most = getattr(self, f"min_{kind}"), getattr(self, f"max_{kind}")
            if least > most:
                raise ValueError(
                    f"min_{kind} is {least:g} and max_{kind} {most:g}: nothing lies between; change either"
                )


@dataclasses.dataclass(frozen=True)
class ProtocolSample:
    """What a system is shown at once."""

    scene: str
    number: int  # of the scene's samples
    start: float  # seconds, of the first frame
    frames: tuple[tuple[str, int, float], ...]  # camera, time step, seconds since `start`

    @property
    def name(self) -> str:
        """Of its folders, and of a prediction."""
        return f"{self.scene.replace('/', '_')}.{self.number}"

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those that took its images, by name."""
        return tuple(sorted({camera for camera, *_ in self.frames}))

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
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"rules": dataclasses.asdict(self.rules), "samples": [_entry(sample) for sample in self.samples]}
        return {"schema": SCHEMA, "version": VERSION, "settings": PROTOCOL_SETTINGS, **plain(fields)}

    @property
    def title(self) -> str:
        """What stands beside scores."""
        return f"{self.name}, sha256 {self.sha256}"

    @property
    def sha256(self) -> str:
        """Of the content as JSON with sorted keys and no spaces, ASCII alone; Python writes a float as the shortest
        text that reads back as the same number, on every platform."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def image_name(camera: str, step: int) -> str:
    """Of a frame, without its suffix."""
    return f"{camera}/{step:06d}"


def told_cameras(cameras: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a sample's cameras, by name, whose place and lens the setting `PARTLY_KNOWN` tells."""
    return tuple(sorted(cameras))[::2]


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Writes what `read_protocol` reads, a line for each key and for each sample."""
    content = protocol.content | {"sha256": protocol.sha256}
    samples = ",\n".join(f"  {_compact(sample)}" for sample in content["samples"])
    values = {key: f"[\n{samples}\n ]" if key == "samples" else _compact(value) for key, value in content.items()}
    text = ",\n".join(f' "{key}": {value}' for key, value in values.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{{\n{text}\n}}\n".encode())


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
            samples=tuple(map(_sample, content["samples"])),
            left_out=content["left_out"],
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: does not follow the schema ({error!r}); make it again") from error
    if content.get("sha256") != protocol.sha256 or content.get("settings") != PROTOCOL_SETTINGS:
        raise ValueError(
            f"{path}: was changed since it was made: its sha256 is not that of its lists; restore the file"
        )
    return protocol


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _entry(sample: ProtocolSample) -> dict[str, Any]:
    frames = [[sample.cameras.index(camera), step, seconds] for camera, step, seconds in sample.frames]
    entry = {"scene": sample.scene, "number": sample.number, "cameras": sample.cameras}
    return entry | {"start": sample.start, "frames": frames}


def _sample(entry: dict[str, Any]) -> ProtocolSample:
    cameras = entry["cameras"]
    for camera in cameras:  # folders are named by them
        check_plain_name(f"sample {entry['scene']}: camera", camera)
    frames = tuple((cameras[number], int(step), float(seconds)) for number, step, seconds in entry["frames"])
    return ProtocolSample(entry["scene"], int(entry["number"]), float(entry["start"]), frames)
