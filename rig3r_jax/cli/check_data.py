"""`rig3r check-data`: whether a data set, or the records made of it, is consistent with its own images."""

import argparse
from pathlib import Path

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.data.source import check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.flags import read_config


def _arguments(parser: argparse.ArgumentParser) -> None:
    sources = f"one of {', '.join(SOURCES)}; or a folder of records"
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"{sources}; none with --config")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="options of the source, as for build-data")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--scenes", type=int, default=2, help="scenes of each split that are read (2)")
    parser.add_argument("--steps", type=int, default=6, help="time steps of each scene whose images are compared (6)")
    parser.add_argument("--out", type=path, help="HTML page to write (check-data.html, in the current folder)")


def _check_data(options: argparse.Namespace) -> int:
    if min(options.scenes, options.steps - 1) < 1:
        raise ValueError(f"--scenes={options.scenes} must be at least 1, --steps={options.steps} at least 2")
    sources = _sources(options)
    from rig3r_jax.inspection.page import table_of, write_page
    from rig3r_jax.inspection.scan import scan

    faulty = False
    for number, (name, splits) in enumerate(sources.items()):
        found = scan(splits, options.scenes, options.steps)
        out = options.out or Path("check-data.html")
        out = out if not number else out.with_stem(f"{out.stem}-{number + 1}")
        write_page(out, found, f"Check of {name}")
        print(f"{name}\n{table_of(found)}\nwith pictures: {out}", flush=True)
        faulty |= found.faulty
    return int(faulty)


def _sources(options: argparse.Namespace) -> dict:
    """Splits of scenes, by what they are called in print."""
    if options.flags:
        if options.source:
            raise ValueError(f"SOURCE is {options.source!r} beside --config; give one of the two")
        mixture = read_config(options.flags).data.mixture
        return {
            f"{number}: {entry.name}, {entry.root or 'made here'}": _splits(
                make_source(entry.name, entry.root, entry.options.to_dict())
            )
            for number, entry in enumerate(mixture)
        }
    if not options.source:
        raise ValueError(f"SOURCE is missing: one of {', '.join(SOURCES)}, a folder of records, or --config of a run")
    if (Path(options.source) / "build.json").is_file():
        return {options.source: _record_splits(Path(options.source))}
    kind = source_class(options.source)
    check_root(kind, options.root)
    source = make_source(options.source, options.root, options_from_words(kind, options.settings))
    return {f"{options.source}, {options.root or 'made here'}": _splits(source)}


def _splits(source) -> dict:
    return {split: source.scenes(split) for split in source.splits()}


def _record_splits(folder: Path) -> dict:
    from rig3r_jax.data.record_source import RecordSource, read_build

    splits = {}
    for split, count in read_build(folder)["splits"].items():
        if count:
            records = RecordSource(folder, split)
            splits[split] = [(records[i].name, lambda records=records, i=i: records[i]) for i in range(len(records))]
    return splits


COMMANDS = {
    "check-data": Command(
        "look whether a data set agrees with its own images, and name what is wrong with it",
        _arguments,
        _check_data,
        config="the run whose data sets are checked",
    ),
}
