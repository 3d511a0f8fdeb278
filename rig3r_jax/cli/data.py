"""Commands that turn data sets into records."""

import argparse

from rig3r_jax.cli.command import Command, path_text
from rig3r_jax.data.source import Source, check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.flags import read_config


def _build_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"one of {', '.join(SOURCES)}; none with --config")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="options of the source, such as window=16")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--out", type=path_text, default="", help="folder of the records to make")


def _build_data(options: argparse.Namespace) -> int:
    if options.flags:
        config = read_config(options.flags)
        if options.source:
            raise ValueError(f"SOURCE is {options.source!r} beside --config; give one of the two")
        from rig3r_jax.training.records import build_ahead

        print(build_ahead(config))
        return 0
    if not options.source:
        raise ValueError(f"SOURCE is missing: one of {', '.join(SOURCES)}; or --config of a run")
    source = _source(options)  # what cannot be is refused before anything heavy is imported
    check_root(type(source), options.root)
    if not options.out:
        raise ValueError("--out is missing: the folder of the records to make")
    from rig3r_jax.data.build import build_records

    print(build_records(options.source, source, options.out).summary())
    return 0


def _source(options: argparse.Namespace) -> Source:
    """The source with its root and options. ValueError for one that is none or an option that it cannot have."""
    kind = source_class(options.source)
    try:
        settings = options_from_words(kind, options.settings)
    except ValueError as error:
        raise ValueError(f"source {options.source!r}: {error}") from None
    return make_source(options.source, options.root, settings)


COMMANDS = {
    "build-data": Command(
        "turn a data set into records; or, with --config, all that a run reads, ahead of it",
        _build_data_arguments,
        _build_data,
        config="the run whose records are built, into its data.records",
        extra="train",
    ),
}
