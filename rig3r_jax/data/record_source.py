"""A folder of records: the scenes of one split by random access.

build.json                      what was asked for (source, root, options, versions) and what came out, with the size
                                of every file and a digest of its ends
quarantine.json                 scenes and frames left out, each with its reason
rig_scenes/1.0.0/               a TFDS data set: `tfds.data_source("rig_scenes", split=..., data_dir=folder)`
rig_frames/1.0.0/               another, of images and depths; a scene knows the number of its first frame
"""

import shlex
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

import tensorflow_datasets as tfds

from rig3r_jax.data import records
from rig3r_jax.data.file_ends import digest_of_ends
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.formats.json_file import read_json

SCENES, FRAMES, TFDS_VERSION = "rig_scenes", "rig_frames", "1.0.0"
# Of the BuildReport; an older build.json has none.
BUILD_COUNTS = {"frames": int, "without_depth": int, "notes": list, "lenses": dict}
_ENDS = "ends"  # file_ends.digest_of_ends by file; an older build.json has none


class RecordSource:
    """The scenes of one split by number; images stay encoded. For grain: random access, threads, pickling."""

    def __init__(self, path: str | Path, split: str) -> None:
        """Opens a folder of records. BadRecord where it is incomplete or a file is not as it was written."""
        self.path, self.split = Path(path), split
        build = read_build(self.path)
        if build is None:
            raise BadRecord(f"{path}: holds no records (no build.json); run `rig3r build-data` first")
        if build["asked"].get("format") != records.FORMAT_VERSION:
            raise BadRecord(other_format(self.path, build["asked"]))
        if not build["splits"].get(split):
            raise BadRecord(f"{path}: split {split!r} has no records; splits: {build['splits']}")
        _check_files(self.path, build)
        self._scenes, self._frames = (_Part(self.path, part, split) for part in (SCENES, FRAMES))
        if (lens_kinds := build.get("lenses", {}).get(split)) is None:
            raise BadRecord(f"{self.path / 'build.json'}: lacks lenses of {split!r}; delete {path} and build it again")
        self.lens_kinds = frozenset(lens_kinds)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: SupportsIndex) -> Scene:
        """Scene number `index`. BadRecord, naming the file, where its bytes are damaged; the same goes for a frame's
        image and depth, which are read when they are asked for."""
        number = index.__index__()
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: scene {index} of {len(self)} in split {self.split!r}")
        return records.example_to_scene(self._scenes.read(number), self._frames.read)

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.split

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.__init__(*state)


def _check_files(folder: Path, build: dict[str, Any]) -> None:
    """BadRecord, naming the file, where one is missing or is not as it was written, by its size and its ends."""
    remedy = f"copy it again, or delete {folder} and build it again"
    for name, size in build["bytes"].items():
        file = folder / name
        size_now = file.stat().st_size if file.exists() else None
        if size_now != size:
            state = "is missing" if size_now is None else f"has {size_now} bytes"
            raise BadRecord(f"{file}: {state}, was written with {size}; {remedy}")
        if (digest := build.get(_ENDS, {}).get(name)) and digest_of_ends(file) != digest:
            raise BadRecord(f"{file}: is another file than was written here, by its first or last bytes; {remedy}")


def other_format(folder: Path, asked: dict[str, Any]) -> str:
    """Why the records of a folder are refused, and the commands that make them anew."""
    # None was the word for what is the default now.
    options = [f"{key}={value}" for key, value in asked.get("options", {}).items() if value is not None]
    build = ["rig3r", "build-data", str(asked.get("source")), "--root", str(asked.get("root")), "--out", str(folder)]
    return (
        f"{folder}: holds records of format {asked.get('format')}, this program reads {records.FORMAT_VERSION}; delete "
        f"it and build it again: {shlex.join(['rm', '-r', str(folder)])} && {shlex.join(build + options)}"
    )


class _Part:
    """One split of one of the data sets of a folder: records by number."""

    def __init__(self, folder: Path, part: str, split: str) -> None:
        self._records_folder = folder
        builder = tfds.builder_from_directory(str(dataset_folder(folder, part)))
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._records, self._features = builder.as_data_source(split, deserialize_method=raw), builder.info.features
        shards = builder.info.splits[split]
        self._files = [str(path) for path in shards.filepaths]
        self._file_ends = list(accumulate(shards.shard_lengths))

    def __len__(self) -> int:
        return len(self._records)

    def read(self, number: int) -> dict[str, Any]:
        """The fields of record `number`; BadRecord, naming the file, where its bytes are damaged."""
        try:
            return self._parse(self._read_bytes(number))
        except Exception as error:  # array_record, protobuf and TFDS each raise their own kinds
            file = self._files[bisect_right(self._file_ends, number)]
            remedy = f"copy it again, or delete {self._records_folder} and build it again"
            raise BadRecord(f"{file}: record {number} does not read ({error}); {remedy}") from error

    def _read_bytes(self, number: int) -> bytes:
        return self._records[number]

    def _parse(self, data: bytes) -> dict[str, Any]:
        fields = self._features.deserialize_example_np(data)
        if absent := [name for name, value in fields.items() if value is None]:  # of a file that is cut meanwhile
            raise ValueError(f"{len(data)} bytes without {', '.join(absent)}")
        return fields


def read_build(folder: Path) -> dict[str, Any] | None:
    """The build.json of a folder of records: asked, splits, bytes, ends and BUILD_COUNTS; None where there is none."""
    file, remedy = folder / "build.json", f"delete {folder} and build it again"
    try:
        build = read_json(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadRecord(f"{error}, or {remedy}") from error
    parts = {key: build.get(key) if isinstance(build, dict) else None for key in ("asked", "splits", "bytes")}
    if isinstance(build, dict) and _ENDS in build:
        parts[_ENDS] = build[_ENDS]
    wrong = [key for key, part in parts.items() if not isinstance(part, dict)]
    if not wrong and not all(isinstance(count, int) for key in ("splits", "bytes") for count in parts[key].values()):
        wrong = ["numbers of splits and bytes"]
    if not wrong:
        wrong = [key for key, kind in BUILD_COUNTS.items() if key in build and not isinstance(build[key], kind)]
    if not wrong and not isinstance(parts["asked"].get("options", {}), dict):
        wrong = ["asked.options"]
    if wrong:
        raise BadRecord(f"{file}: lacks {', '.join(wrong)}; {remedy}")
    return parts | {key: build[key] for key in BUILD_COUNTS if key in build}


def dataset_folder(folder: Path, name: str) -> Path:
    return folder / name / TFDS_VERSION
