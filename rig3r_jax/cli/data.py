"""Commands that turn data sets into records."""

import argparse

from rig3r_jax.cli.command import Command, path_text
from rig3r_jax.data.source import Source, check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config

_MAX_BAD_FRACTION = "max_bad_fraction="  # an option of builds, not of sources


def _build_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"one of {', '.join(SOURCES)}; none with --config")
    parser.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="*",
        help="options of the source, such as window=16; max_bad_fraction=0.2: of its scenes and of their frames, "
        "a larger share of bad ones ends the build (0.1)",
    )
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--out", type=path_text, default="", help="folder of the records to make")


def _build_data(options: argparse.Namespace) -> int:
    if options.flags:
        config = read_config(options.flags)
        check_whole(config)
        if options.source:
            raise ValueError(f"SOURCE is {options.source!r} beside --config; give one of the two")
        from rig3r_jax.training.records import build_ahead

        print(build_ahead(config))
        return 0
    if not options.source:
        raise ValueError(f"SOURCE is missing: one of {', '.join(SOURCES)}; or --config of a run")
    build_words = [word for word in options.settings if word.startswith(_MAX_BAD_FRACTION)]
    settings = [word for word in options.settings if word not in build_words]
    source = _source(options.source, options.root, settings)  # refused before anything heavy is imported
    check_root(type(source), options.root)
    if not options.out:
        raise ValueError("--out is missing: the folder of the records to make")
    build_options = {}
    if build_words:
        try:
            build_options["max_bad_fraction"] = float(build_words[-1].removeprefix(_MAX_BAD_FRACTION))
        except ValueError:
            raise ValueError(f"{build_words[-1]} must be a number in [0, 1]") from None
    from rig3r_jax.data.build import build_records

    print(build_records(options.source, source, options.out, **build_options).summary())
    return 0


def _source(name: str, root: str, words: list[str]) -> Source:
    """The source with its root and options. ValueError for one that is none or an option that it cannot have."""
    kind = source_class(name)
    try:
        settings = options_from_words(kind, words)
    except ValueError as error:
        raise ValueError(f"source {name!r}: {error}") from None
    return make_source(name, root, settings)


COMMANDS = {
    "build-data": Command(
        "turn a data set into records; or, with --config, all that a run reads, ahead of it",
        _build_data_arguments,
        _build_data,
        config="the run whose records are built, into its data.records",
        extra="train",
    ),
}
