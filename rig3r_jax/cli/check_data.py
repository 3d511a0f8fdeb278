"""`rig3r check-data`: whether a data set, or the records made of it, is consistent with its own images."""

import argparse
import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.data.source import Source, check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.flags import read_config

if typing.TYPE_CHECKING:
    from rig3r_jax.inspection.scan import Loaders

_OF_RECORDS = (
    "records do not keep the frame of the vehicle or IMU whose poses the files hold: what is wrong with those shows "
    "here too, but is named only by a check of the raw data"
)


@dataclasses.dataclass(frozen=True)
class _DataSet:
    """What is checked, and what is to be said of it beside."""

    name: str
    splits: Mapping[str, "Loaders"]
    notes: Sequence[str]


def _arguments(parser: argparse.ArgumentParser) -> None:
    sources = f"one of {', '.join(SOURCES)}; or a folder of records"
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"{sources}; none with --config")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="options of the source, as for build-data")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--scenes", type=int, default=2, help="scenes of each split that are read (2)")
    parser.add_argument("--steps", type=int, default=6, help="time steps of each scene whose images are compared (6)")
    parser.add_argument("--every", action="store_true", help="of records: read each one whole, check nothing else")
    parser.add_argument("--out", type=path, help="HTML page to write (check-data.html, in the current folder)")


def _check_data(options: argparse.Namespace) -> int:
    if min(options.scenes, options.steps - 1) < 1:
        raise ValueError(f"--scenes={options.scenes} must be at least 1, --steps={options.steps} at least 2")
    if options.every:
        return _read_every_record(options)
    data_sets = list(_data_sets(options))
    from rig3r_jax.inspection.page import table_of, write_page
    from rig3r_jax.inspection.scan import scan

    faulty = False
    for number, data_set in enumerate(data_sets):
        scanned = scan(data_set.splits, options.scenes, options.steps)
        out = options.out or Path("check-data.html")
        out = out if not number else out.with_stem(f"{out.stem}-{number + 1}")
        write_page(out, scanned, f"Check of {data_set.name}")
        notes = [f"note: {note}" for note in data_set.notes]
        lines = [data_set.name, table_of(scanned), *notes, *map(str, scanned.scenes), scanned.summary]
        print("\n".join([*lines, f"with pictures: {out}"]), flush=True)
        faulty |= scanned.faulty
    return int(faulty)


def _read_every_record(options: argparse.Namespace) -> int:
    """Exit code 1 where a record is damaged; ValueError for what is no folder of records."""
    if options.flags or not options.source or not (Path(options.source) / "build.json").is_file():
        raise ValueError(f"--every reads a folder of records, {options.source or '--config'} is none; give its path")
    from rig3r_jax.inspection.every_record import read_every_record

    damaged = False
    for read in read_every_record(Path(options.source)):
        print("\n".join([str(read), *read.damaged]), flush=True)
        damaged |= bool(read.damaged)
    return int(damaged)


def _data_sets(options: argparse.Namespace) -> Iterator[_DataSet]:
    """ValueError for arguments that do not go together."""
    if options.flags:
        if options.source or options.root:
            raise ValueError(
                f"{options.source or f'--root {options.root}'} beside --config: give one of the two; sources and roots "
                "are those of the config's data.mixture"
            )
        yield from _mixture(options.flags)
        return
    if not options.source:
        raise ValueError(f"SOURCE is missing: one of {', '.join(SOURCES)}, a folder of records, or --config of a run")
    if (Path(options.source) / "build.json").is_file():
        if options.root or options.settings:
            words = [f"--root {options.root}"] * bool(options.root) + options.settings
            raise ValueError(f"{options.source} holds records, which take no {' '.join(words)}; leave that out")
        yield _of_records(Path(options.source))
        return
    kind = source_class(options.source)
    check_root(kind, options.root)
    source = make_source(options.source, options.root, options_from_words(kind, options.settings))
    yield _of_source(f"{options.source}, {options.root or 'made here'}", source)


def _mixture(flags: Sequence[str]) -> Iterator[_DataSet]:
    """The data sets that a run of a config reads; those that it leaves out are printed. ValueError as of the run."""
    from rig3r_jax.training.checks import is_skipped, mixture_problems

    config = read_config(flags)
    if problems := list(mixture_problems(config)):
        raise ValueError("\n".join(problems))
    for number, entry in enumerate(config.data.mixture):
        if entry.weight > 0 and not is_skipped(config, number):
            source = make_source(entry.name, entry.root, entry.options.to_dict())
            yield _of_source(f"{number}: {entry.name}, {entry.root or 'made here'}", source)
        else:
            reason = "data.skip_missing, no root" if entry.weight > 0 else "weight 0"
            print(f"not checked, since the run leaves it out: {number}: {entry.name} ({reason})", flush=True)


def _of_source(name: str, source: Source) -> _DataSet:
    splits = {split: source.scenes(split) for split in source.splits()}
    notes = list(source.notes())
    if left_out := source.left_out():
        recording, first = left_out[0]
        notes.append(f"{len(left_out)} images are in no scene, such as {recording}, {first.frame}: {first.reason}")
    return _DataSet(name, splits, notes)


def _of_records(folder: Path) -> _DataSet:
    from rig3r_jax.data.build_report import read_quarantine
    from rig3r_jax.data.record_source import RecordSource, read_build

    splits = {}
    for split, count in read_build(folder)["splits"].items():
        if count:
            records = RecordSource(folder, split)
            splits[split] = [(records[i].name, lambda records=records, i=i: records[i]) for i in range(len(records))]
    skipped, frames = read_quarantine(folder)
    notes = [_OF_RECORDS]
    if skipped or frames:
        notes.append(f"{len(skipped)} scenes and {len(frames)} frames were left out of the records: quarantine.json")
    return _DataSet(str(folder), splits, notes)


COMMANDS = {
    "check-data": Command(
        "look whether a data set agrees with its own images, and name what is wrong with it",
        _arguments,
        _check_data,
        config="the run whose data sets are checked",
    ),
}
