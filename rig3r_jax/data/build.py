"""From the scenes of a source to a folder of records, once; the folder appears when it is whole, not before."""

import dataclasses
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from rig3r_jax.data import records
from rig3r_jax.data.bad_frames import has_depth, without_bad_frames
from rig3r_jax.data.build_report import MAX_BAD_FRACTION, SHOWN, BuildReport, read_quarantine
from rig3r_jax.data.record_source import (
    BUILD_COUNTS,
    FRAMES,
    SCENES,
    TFDS_VERSION,
    dataset_folder,
    other_format,
    read_build,
)
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Scenes, Source, bad_scene
from rig3r_jax.extras import lack_of
from rig3r_jax.formats.json_file import write_json

_PER_FILE = {SCENES: 64, FRAMES: 4096}  # records


def build_records(
    name: str, source: Source, out: str | Path, max_bad_fraction: float = MAX_BAD_FRACTION, progress: bool = True
) -> BuildReport:
    """Writes all scenes of a source as records into the folder `out`, or takes what is there if it is the same.

    Args:
        name: of the source, a key of SOURCES.
        source: with its root and options, as `make_source` gives it.
        out: folder to make; an existing one must be empty or hold the records of the same options.
        max_bad_fraction: of the scenes, and of the frames, that may be bad before the whole build fails.
        progress: shows a bar on stderr.

    Raises:
        ValueError: a package that the source lacks, or an `out` that holds something else.
        BadRecord: no scenes, or too many bad ones or bad frames.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise ValueError(f"max_bad_fraction={max_bad_fraction} must be in [0, 1]")
    out = Path(out)
    if built := _find_built(out, name, source):
        return built
    if lack := lack_of(source.requires):
        raise ValueError(f"source {name!r} {lack}")
    loaders = {split: source.scenes(split) for split in source.splits()}
    if not any(loaders.values()):
        raise BadRecord(f"source {name!r} finds no scenes in {source.root!r}; give the folder that holds its data")

    return _write_whole(out, name, source, loaders, max_bad_fraction, progress)


def _write_whole(
    out: Path, name: str, source: Source, loaders: dict[str, Scenes], max_bad_fraction: float, progress: bool
) -> BuildReport:
    """Writes all beside `out`, then gives it that name; where another process was first, what that one built."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(out)
    partial = out.with_name(f"{_partial_prefix(out)}{os.getpid()}")
    partial.mkdir()
    try:
        report = _write(partial, name, source, loaders, max_bad_fraction, progress)
        files = sorted(path for part in (SCENES, FRAMES) for path in dataset_folder(partial, part).iterdir())
        sizes = {str(path.relative_to(partial)): path.stat().st_size for path in files}
        report.write_quarantine(partial)
        build = {"asked": build_stamp(name, source), "splits": report.splits, "bytes": sizes}
        build |= {key: getattr(report, key) for key in BUILD_COUNTS}
        write_json(partial / "build.json", build, indent=2)
        try:
            os.rename(partial, out)  # atomic; replaces an empty folder
        except OSError:
            if built := _find_built(out, name, source):  # another process may have been first
                return built
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return dataclasses.replace(report, path=out)


def _write(
    folder: Path, name: str, source: Source, loaders: dict[str, Scenes], max_bad_fraction: float, progress: bool
) -> BuildReport:
    """Writes records and their metadata into `folder`; raises once too many scenes are bad."""
    writer = _SceneWriter(folder, name)
    total = sum(map(len, loaders.values()))
    counts, skipped, frames, without_depth = dict.fromkeys(loaders, 0), [], 0, 0
    lenses: dict[str, set[str]] = {split: set() for split in loaders}
    left_out = list(source.left_out())
    bar = tqdm(total=total, desc=f"records of {name}", unit="scene", file=sys.stderr, disable=not progress)
    # One scene is compressed and written while the next one is loaded.
    with bar, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(int)
        for split, scene_name, load in _each_once(loaders):
            try:
                scene = without_bad_frames(load())
            except BadRecord as error:
                skipped.append((f"{split}/{scene_name}", str(error)))
                if len(skipped) > max(max_bad_fraction * total, SHOWN):
                    break  # no use in reading the rest
            else:
                writing.result()
                writing = pool.submit(writer.add, split, scene)
                counts[split] += 1
                frames += len(scene.frames)
                lenses[split] |= {camera.lens.kind for camera in scene.cameras}
                without_depth += not has_depth(scene)
                left_out += [(f"{split}/{scene_name}", frame) for frame in scene.left_out]
            bar.set_postfix(images=frames, skipped=len(skipped), left_out=len(left_out), refresh=False)
            bar.update()
        writing.result()
        writer.close()
    notes = tuple(source.notes())
    kinds = {split: sorted(of_split) for split, of_split in lenses.items()}
    report = BuildReport(folder, counts, skipped, False, frames, tuple(left_out), without_depth, notes, kinds)
    report.check(name, total, max_bad_fraction)
    return report


def _each_once(loaders: dict[str, Scenes]) -> Iterator[tuple[str, str, Callable[[], Scene]]]:
    """Split, name and loader of every scene; that of a name that its split has already raises BadRecord."""
    for split, scenes in loaders.items():
        names: set[str] = set()
        for name, load in scenes:
            if name in names:
                name, load = bad_scene(name, f"scene {name}: is in the split {split!r} twice; names must be unique")
            names.add(name)
            yield split, name, load


class _SceneWriter:
    """Scenes into a folder's data sets, in the order given; TFDS's GeneratorBasedBuilder would shuffle, and write all
    twice."""

    def __init__(self, folder: Path, source: str) -> None:
        features = {SCENES: records.scene_features(), FRAMES: records.frame_features()}
        self._writers = {name: _writer(folder, name, fields, source) for name, fields in features.items()}
        self._frames: dict[str, int] = {}  # written so far, by split

    def add(self, split: str, scene: Scene) -> None:
        """Writes one scene and its frames."""
        if split not in self._frames:
            self._frames[split] = 0
            for writer in self._writers.values():
                writer.initialize_splits([split])
        self._writers[SCENES].add_examples({split: [records.scene_to_example(scene, self._frames[split])]})
        self._writers[FRAMES].add_examples({split: [records.frame_to_example(frame) for frame in scene.frames]})
        self._frames[split] += len(scene.frames)

    def close(self) -> None:
        """Writes what is left, and the metadata."""
        for writer in self._writers.values():
            writer.close_all()


def _writer(folder: Path, name: str, features: tfds.features.FeaturesDict, source: str) -> tfds.core.SequentialWriter:
    folder = dataset_folder(folder, name)
    folder.mkdir(parents=True)
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version(TFDS_VERSION), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=f"{name} of the source {source!r}.")
    return tfds.core.SequentialWriter(info, max_examples_per_shard=_PER_FILE[name], file_format="array_record")


def build_stamp(name: str, source: Source) -> dict[str, Any]:
    """All that decides what the records of a source hold, as JSON gives it back."""
    stamp = {
        "format": records.FORMAT_VERSION,
        "source": name,
        "source_version": source.VERSION,
        "root": os.path.abspath(source.root) if source.root else "",
        "options": source.options(),
    }
    return json.loads(json.dumps(stamp))


def stamp_differences(asked: Mapping[str, Any], name: str, source: Source) -> dict[str, tuple[Any, Any]]:
    """What keeps records with the stamp `asked` from being those of the source: key, value there, value of the source.

    An option may be newer than the records: they have its default.
    """
    filled = {**asked, "options": build_stamp(name, type(source)())["options"] | asked.get("options", {})}
    stamp = build_stamp(name, source)
    return {key: (filled.get(key), value) for key, value in stamp.items() if filled.get(key) != value}


def _find_built(out: Path, name: str, source: Source) -> BuildReport | None:
    """The report of complete records of this source; None where there is nothing; else ValueError."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    build = read_build(out) if out.is_dir() else None
    if build is None:
        raise ValueError(f"{out}: exists and holds no records; give a new folder, or delete it first")
    differences = stamp_differences(build["asked"], name, source)
    if "format" in differences:
        raise BadRecord(other_format(out, build["asked"]))
    if differences:
        differing = "; ".join(f"{key}: {there!r} there, {asked!r} asked" for key, (there, asked) in differences.items())
        raise ValueError(
            f"{out}: holds other records ({differing}); give a new folder, or delete it first: "
            f"{shlex.join(['rm', '-r', str(out)])}"
        )
    skipped, left_out = read_quarantine(out)
    counts = {key: build[key] for key in BUILD_COUNTS if key in build}
    return BuildReport(out, build["splits"], skipped, True, left_out=left_out, **counts)


def _partial_prefix(out: Path) -> str:
    return f".{out.name}.building-{socket.gethostname()}-"


def _remove_leftovers(out: Path) -> None:
    """Removes what builds of this folder left that were killed on this machine."""
    prefix = _partial_prefix(out)
    for folder in out.parent.glob(".*"):
        number = folder.name.removeprefix(prefix)
        if folder.name.startswith(prefix) and number.isdigit() and not _is_running(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()  # our own number, found before we made the folder, is of an earlier process
