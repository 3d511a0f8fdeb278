"""From the scenes of a source to a folder of records, once; the folder appears when it is whole, not before.

Scenes are built in groups (build_groups.py), which lie in .NAME.building beside the folder NAME until all are there.
So a build that was killed goes on where it was, and shards of it, on any number of machines that share the file system,
fill the same folder: whoever finds all groups there makes the records of them. Records are the same, byte for byte,
whatever the number of workers and shards, and however often a build was cut short.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rig3r_jax.data import records
from rig3r_jax.data.build_finish import BuiltGroups, report_of, write_folder
from rig3r_jax.data.build_groups import BuiltGroup, Group, GroupFolder, groups_of, list_scenes
from rig3r_jax.data.build_report import MAX_BAD_FRACTION, SHOWN, BuildReport, read_quarantine
from rig3r_jax.data.build_workers import build_groups
from rig3r_jax.data.record_source import BUILD_COUNTS, other_format, read_build
from rig3r_jax.data.scene import UNMATCHED, BadRecord
from rig3r_jax.data.source import Scenes, Source
from rig3r_jax.extras import lack_of

_SCENES_TO_JUDGE_BY = 3  # written before the disk's free space is held against what all will take
_SECONDS_BETWEEN_LINES = 10.0  # of progress in a log


@dataclasses.dataclass(frozen=True)
class Share:
    """What of a build one call does; records are whole when all shards were built, in any order and at any time."""

    workers: int = 1  # processes; 0: as many as cores, where the build takes more than some seconds
    shard: int = 0  # number of the shard, from 0
    shards: int = 1
    merge: bool = False  # builds nothing: makes the records of groups that are all there

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers={self.workers} must be at least 1, or 0 for as many as cores")
        if not 0 <= self.shard < self.shards:
            raise ValueError(f"shard {self.shard}/{self.shards} must be one of 0/{self.shards} to n-1/n, n at least 1")

    def of(self, groups: Sequence[Group]) -> list[Group]:
        """The groups of this shard: of every split a piece in a row."""
        mine = []
        for split in dict.fromkeys(group.split for group in groups):
            of_split = [group for group in groups if group.split == split]
            first, last = (len(of_split) * edge // self.shards for edge in (self.shard, self.shard + 1))
            mine += of_split[first:last]
        return [] if self.merge else mine


def build_records(
    name: str,
    source: Source,
    out: str | Path,
    max_bad_fraction: float = MAX_BAD_FRACTION,
    progress: bool = True,
    share: Share = Share(),  # noqa: B008 (frozen)
) -> BuildReport:
    """Writes all scenes of a source as records into the folder `out`, or takes what is there if it is the same.

    Args:
        name: of the source, a key of SOURCES.
        source: with its root and options, as `make_source` gives it; it must pickle where there are several workers.
        out: folder to make; an existing one must be empty or hold the records of the same options.
        max_bad_fraction: of the scenes, and of the frames, that may be bad before the whole build fails.
        progress: shows a bar on stderr.
        share: processes, and the part of the build that this call does. Where scenes of other shards are still to
            come the report says how many (`unbuilt`), and there is no folder yet.

    Raises:
        ValueError: a package that the source lacks, an `out` that holds something else, or too little free disk.
        BadRecord: no scenes, or too many bad ones or bad frames. Bad scenes are read anew by the next call.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise ValueError(f"max_bad_fraction={max_bad_fraction} must be in [0, 1]")
    out = Path(out)
    if built := _find_built(out, name, source):
        return built
    if lack := lack_of(source.requires):
        raise ValueError(f"source {name!r} {lack}")
    listing = list_scenes(source)
    if not any(listing.values()):
        raise BadRecord(f"source {name!r} finds no scenes in {source.root!r}; give the folder that holds its data")
    folder = _open_groups(out, name, source)
    build = _Build(name, source, out, max_bad_fraction, listing, folder)
    try:
        build.run(share, progress)
        return build.finish(share)
    except OSError:
        if built := _find_built(out, name, source):  # another process was first
            return built
        raise
    finally:
        folder.remove_if_empty()


class _Build:
    """A build that is under way."""

    def __init__(
        self,
        name: str,
        source: Source,
        out: Path,
        max_bad_fraction: float,
        listing: dict[str, Scenes],
        folder: GroupFolder,
    ) -> None:
        self._name, self._source, self._out, self._max_bad_fraction = name, source, out, max_bad_fraction
        self._listing, self._folder, self._groups = listing, folder, groups_of(listing)
        self._total = sum(map(len, listing.values()))  # scenes
        self._built: dict[Group, BuiltGroup] = {}

    def run(self, share: Share, progress: bool) -> None:
        """Builds what is missing of a shard; stops once too many scenes are bad."""
        mine = share.of(self._groups)
        self._built = {group: built for group in mine if (built := self._folder.built(group))}
        missing = [group for group in mine if group not in self._built]
        bar = _Bar(self._name, sum(len(group.names) for group in mine), self._built.values(), progress)
        groups = build_groups(self._source, self._listing, missing, self._folder, share.workers)
        judged = False  # of the disk
        with bar, contextlib.closing(groups):
            for group, built in groups:
                self._built[group] = built
                bar.add(built)
                if self._hopeless():
                    break  # no use in reading the rest
                if not judged and (judged := bar.scenes >= _SCENES_TO_JUDGE_BY):
                    self._check_disk(bar.scenes, bar.num_bytes)

    def finish(self, share: Share) -> BuildReport:
        """The records of all groups, if they are there. BadRecord where too much is bad."""
        whole = [(group, self._built.get(group) or self._folder.built(group)) for group in self._groups]
        there = [(group, built) for group, built in whole if built]
        report = report_of(there, tuple(self._listing))
        left_out = (*self._source.left_out(), *report.left_out)
        report = dataclasses.replace(report, path=self._out, left_out=left_out, notes=tuple(self._source.notes()))
        missing = [name for group, built in whole if not built for name in group.names]
        if self._hopeless() or not missing:
            try:
                report.check(self._name, self._total, self._max_bad_fraction)
            except BadRecord:
                self._forget_bad(there)
                raise
        elif share.merge:
            raise ValueError(
                f"{self._out}: {len(missing)} of {self._total} scenes are not built yet, {missing[0]} the first; run "
                "the shards that did not end, or the build without --shard and --merge"
            )
        else:
            return dataclasses.replace(report, unbuilt=len(missing))
        write_folder(self._folder, there, report, self._name, build_stamp(self._name, self._source))
        shutil.rmtree(self._folder.path, ignore_errors=True)
        return report

    def _hopeless(self) -> bool:
        """Whether more scenes are bad than may be, whatever the others are."""
        skipped = sum(len(built.skipped) for built in self._built.values())
        return skipped > max(self._max_bad_fraction * self._total, SHOWN)

    def _forget_bad(self, groups: BuiltGroups) -> None:
        """What is bad in them may be repaired: the next build reads these scenes anew."""
        for group, built in groups:
            if built.skipped or any(frame.kind != UNMATCHED for _, frame in built.left_out):
                self._folder.forget(group)

    def _check_disk(self, scenes: int, num_bytes: int) -> None:
        """ValueError where what is still to come has no room, by what the first scenes took."""
        there = self._folder.stems()  # of other shards too
        to_come = sum(len(group.names) for group in self._groups if group.stem not in there)
        free, needed = shutil.disk_usage(self._folder.path).free, num_bytes / scenes * to_come
        if needed > free:
            raise ValueError(
                f"{self._out}: the first {scenes} scenes take {num_bytes / 1e9:.3g} GB, so that the {to_come} to come "
                f"take about {needed / 1e9:.3g} GB; {free / 1e9:.3g} GB are free there. Free some and start again, "
                "which goes on from here, or give another folder"
            )


class _Bar:
    """Progress on stderr, with the time left; where nobody watches, a line now and then."""

    def __init__(self, name: str, total: int, built: Iterable[BuiltGroup], shown: bool) -> None:
        built = list(built)
        self.scenes = sum(len(of_group.names) for of_group in built)
        self.num_bytes = self._images = self._skipped = self._left_out = 0
        file, seconds = (sys.stderr, 0.1) if sys.stderr.isatty() else (_Lines(), _SECONDS_BETWEEN_LINES)
        self._bar = tqdm(
            desc=f"records of {name}", total=total, initial=self.scenes, unit="scene", file=file, mininterval=seconds,
            disable=not shown,
        )  # fmt: skip
        for of_group in built:
            self._count(of_group)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def add(self, built: BuiltGroup) -> None:
        """One group more."""
        self.scenes += len(built.names)
        self._count(built)
        self._bar.update(len(built.names))

    def _count(self, built: BuiltGroup) -> None:
        self.num_bytes += sum(built.sizes.values())
        self._images += built.frames
        self._skipped += len(built.skipped)
        self._left_out += len(built.left_out)
        text = f"{self.num_bytes / 1e9:.2f} GB, images={self._images}"
        self._bar.set_postfix_str(f"{text}, skipped={self._skipped}, left_out={self._left_out}", refresh=False)


class _Lines:
    """Standard error that is no terminal: each state of the bar is a line of its own."""

    def write(self, text: str) -> None:
        """Prints what is no movement of a cursor."""
        if text := text.strip("\r\n "):
            print(text, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def _open_groups(out: Path, name: str, source: Source) -> GroupFolder:
    """The folder of the groups of a build, with those that a build of the same left there; ValueError for others."""
    folder = GroupFolder(out.with_name(f".{out.name}.building"))
    if (asked := folder.open(build_stamp(name, source))) and (differences := stamp_differences(asked, name, source)):
        raise ValueError(
            f"{folder.path}: holds an unfinished build of other records ({_listed(differences)}); finish that, or "
            f"delete it: {shlex.join(['rm', '-r', str(folder.path)])}"
        )
    return folder


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
        raise ValueError(
            f"{out}: holds other records ({_listed(differences)}); give a new folder, or delete it first: "
            f"{shlex.join(['rm', '-r', str(out)])}"
        )
    return built_report(out, build)


def built_report(folder: Path, build: Mapping[str, Any]) -> BuildReport:
    """What a folder of records holds; `build` is its `read_build`."""
    skipped, left_out = read_quarantine(folder)
    counts = {key: build[key] for key in BUILD_COUNTS if key in build}
    return BuildReport(folder, build["splits"], skipped, True, left_out=left_out, **counts)


def _listed(differences: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key}: {there!r} there, {asked!r} asked" for key, (there, asked) in differences.items())
