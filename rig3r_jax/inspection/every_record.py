"""Every record of a folder, read whole: for disks and copies that are in doubt."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.data.frame_bytes import decode_depth, decode_mask
from rig3r_jax.data.image_bytes import usable_size
from rig3r_jax.data.scene import BadRecord, Scene, SceneSource


@dataclasses.dataclass(frozen=True)
class ReadRecords:
    """What came of reading all records of a split."""

    split: str
    scenes: int
    frames: int  # of the scenes that read
    damaged: tuple[str, ...]  # a line for each scene and each frame that does not read, with file and reason

    def __str__(self) -> str:
        state = f"{len(self.damaged)} damaged" if self.damaged else "all whole"
        return f"{self.split}: {self.scenes} scenes, {self.frames} frames read: {state}"


def read_every_record(folder: Path) -> Iterator[ReadRecords]:
    """Reads all scenes of all splits: checksums of the files, images to the last block, depths and masks.

    BadRecord where the folder is not as it was written (see `RecordSource`).
    """
    from rig3r_jax.data.record_source import RecordSource, read_build  # import TFDS: not for a command's help

    for split, count in read_build(folder)["splits"].items():
        if count:
            yield _read_split(RecordSource(folder, split), split)


def _read_split(source: SceneSource, split: str) -> ReadRecords:
    damaged: list[str] = []
    frames = 0
    for number in range(len(source)):
        try:
            scene = source[number]
        except BadRecord as error:
            damaged.append(f"scene {number}: {error}")
            continue
        frames += len(scene.frames)
        damaged += _damaged_frames(scene)
    return ReadRecords(split, len(source), frames, tuple(damaged))


def _damaged_frames(scene: Scene) -> Iterator[str]:
    for frame in scene.frames:
        try:
            usable_size(frame.image)
            decode_depth(frame.depth)
            if frame.mask:
                decode_mask(frame.mask)
        except BadRecord as error:
            yield f"scene {scene.name}, camera {scene.cameras[frame.camera].name}, step {frame.step}: {error}"
