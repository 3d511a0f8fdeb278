"""Commands that turn data sets into records, and one that makes an example of a data set."""

import argparse
import shlex

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.data.source import Source, check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config

# Options of builds, not of sources: what each is, and how it is read.
_BUILD_OPTIONS = {"max_bad_fraction": (float, "a number in [0, 1]"), "workers": (int, "a whole number")}


def _build_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"one of {', '.join(SOURCES)}; none with --config")
    parser.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="*",
        help="options of the source, such as window=16; max_bad_fraction=0.2: of its scenes and of their frames, "
        "a larger share of bad ones ends the build (0.1); workers=4: processes (as many as cores)",
    )
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--out", type=path_text, default="", help="folder of the records to make")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        type=_shard,
        default=(0, 1),
        help="build the I-th of N parts of the scenes, I from 0, on any machine that sees OUT; the records are made "
        "when the last part is there",
    )
    parser.add_argument(
        "--merge", action="store_true", help="build nothing, but make the records of the parts, if all are there"
    )


def _shard(text: str) -> tuple[int, int]:
    """Number and count of shards of I/N."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} must be I/N with I from 0 to N-1, such as 0/8")
    return int(number), int(count)


def _build_data(options: argparse.Namespace) -> int:
    if options.merge and options.shard != (0, 1):
        raise ValueError("--merge and --shard: give one of the two; --merge takes the parts of all shards")
    if options.flags:
        return _build_mixture(options)
    if not options.source:
        raise ValueError(f"SOURCE is missing: one of {', '.join(SOURCES)}; or --config of a run")
    build_words = [word for word in options.settings if word.partition("=")[0] in _BUILD_OPTIONS]
    settings = [word for word in options.settings if word not in build_words]
    source = source_of(options.source, options.root, settings)  # refused before anything heavy is imported
    check_root(type(source), options.root)
    if not options.out:
        raise ValueError("--out is missing: the folder of the records to make")
    build_options = dict(map(_build_option, build_words))
    from rig3r_jax.data.build import Share, build_records

    share = Share(build_options.pop("workers", 0), *options.shard, merge=options.merge)
    print(build_records(options.source, source, options.out, share=share, **build_options).summary())
    return 0


def _build_mixture(options: argparse.Namespace) -> int:
    """All that a run reads."""
    config = read_config(options.flags)
    check_whole(config)
    if options.source:
        raise ValueError(f"SOURCE is {options.source!r} beside --config; give one of the two")
    from rig3r_jax.data.build import Share
    from rig3r_jax.training.records import build_ahead

    print(build_ahead(config, Share(config.data.build_workers, *options.shard, merge=options.merge)))
    return 0


def _build_option(word: str) -> tuple[str, int | float]:
    """Name and value of a word key=value of _BUILD_OPTIONS."""
    name, _, value = word.partition("=")
    kind, rule = _BUILD_OPTIONS[name]
    try:
        return name, kind(value)
    except ValueError:
        raise ValueError(f"{word} must be {rule}") from None


def _example_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=path, help="folder to make")
    parser.add_argument("--drives", metavar="N", type=int, default=4, help="recordings, each in a world of its own (4)")
    parser.add_argument("--cameras", metavar="N", type=int, default=3, help="cameras of the rig, 1 to 8 (3)")
    parser.add_argument("--lenses", default="pinhole", help="of the cameras: pinhole, or fisheye (pinhole)")
    parser.add_argument("--steps", metavar="N", type=int, default=16, help="time steps of a drive (16)")
    parser.add_argument("--image-size", metavar="N", type=int, default=128, help="pixels, height and width (128)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of worlds and rig (0)")


def _example(options: argparse.Namespace) -> int:
    if options.drives < 1:
        raise ValueError(f"--drives is {options.drives}; it must be at least 1")
    cameras = {"min_cameras": options.cameras, "max_cameras": options.cameras, "fixed_rigs": 1}
    sizes = {"steps": options.steps, "image_size": options.image_size, "seed": options.seed}
    settings = {"train_worlds": options.drives, "lenses": options.lenses, **cameras, **sizes}
    worlds = make_source("procedural", "", settings)
    from rig3r_jax.data.example_rig import write_example

    lines, setting = write_example(options.out, options.drives, worlds)
    print("\n".join(lines))
    if setting:
        print(f"its depth images hold distances along rays, of which {setting} tells")
    command = ["rig3r", "build-data", "folder", "--root", str(options.out), "--out", f"{options.out}_records"]
    print("records of it: " + shlex.join([*command, *setting.split()]))
    return 0


def source_of(name: str, root: str, words: list[str]) -> Source:
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
    "example-rig": Command(
        "make a folder of images, calibration, poses, depth and masks, laid out as build-data folder reads it",
        _example_arguments,
        _example,
    ),
}
