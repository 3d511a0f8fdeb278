"""Commands of protocols: lists of frames that any system is scored on, their data, and the check of an answer."""

import argparse
import dataclasses

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.data.source import Source, check_root, options_from_words
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.evaluation.protocol import Rules, read_protocol, write_protocol

_FAULTS = 1  # exit code of an answer that cannot be scored
_RULES = Rules()
_DRAWS = {  # fields of `Rules` by flag
    "samples": "samples_per_scene",
    "views": "views",
    "min_cameras": "min_cameras",
    "max_cameras": "max_cameras",
    "max_stride": "max_stride",
    "min_seconds": "min_seconds",
    "max_seconds": "max_seconds",
    "unseen_in": "unseen_in",
    "min_baseline": "min_baseline",
}


def _make_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="RECIPE|SOURCE",
        help=f"a ready choice of all that follows (docs/protocols.md), or one of {', '.join(SOURCES)}",
    )
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="options of the source, as of build-data")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--split", default="", help="of the data set, such as val; a recipe has its own")
    parser.add_argument("--out", type=path, required=True, help="file to make; its name is the protocol's")
    parser.add_argument("--scenes", type=int, metavar="N", help="take as many, spread over the split (all)")
    parser.add_argument("--samples", type=int, metavar="N", help=f"of each scene ({_RULES.samples_per_scene})")
    parser.add_argument("--views", type=int, metavar="N", help=f"images of a sample ({_RULES.views})")
    parser.add_argument("--min-cameras", type=int, metavar="N", help=f"of a sample ({_RULES.min_cameras})")
    parser.add_argument("--max-cameras", type=int, metavar="N", help=f"of a sample ({_RULES.max_cameras})")
    parser.add_argument(
        "--max-stride", type=int, metavar="N", help=f"time steps between two of a sample ({_RULES.max_stride})"
    )
    parser.add_argument(
        "--min-seconds", type=float, metavar="S", help="between two time steps, in place of --max-stride"
    )
    parser.add_argument("--max-seconds", type=float, metavar="S", help="between two time steps")
    parser.add_argument(
        "--unseen-in", metavar="SPLIT", help="leave scenes out whose rig is in this split too, such as train"
    )
    parser.add_argument(
        "--min-baseline", type=float, metavar="M", help=f"nearer pairs have no direction ({_RULES.min_baseline:g})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")


def _make(options: argparse.Namespace) -> int:
    _check_numbers(options)
    from rig3r_jax.evaluation.protocol_make import make_protocol
    from rig3r_jax.evaluation.protocol_recipes import RECIPES

    recipe = RECIPES.get(options.source)
    kind = recipe.source if recipe else options.source
    if kind not in SOURCES:
        raise ValueError(
            f"{kind!r} is no recipe and no source; recipes: {', '.join(RECIPES)}; sources: {', '.join(SOURCES)}"
        )
    split = options.split or (recipe.split if recipe else "")
    if not split:
        raise ValueError("--split is missing: of the data set, such as val; of procedural unseen_rigs")
    words = options_from_words(source_class(kind), options.settings)
    source = make_source(kind, options.root, {**(recipe.options if recipe else {}), **words})
    check_root(type(source), options.root)
    draws = {field: value for flag, field in _DRAWS.items() if (value := getattr(options, flag)) is not None}
    rules = dataclasses.replace(recipe.rules if recipe else _RULES, **draws)
    if options.max_stride is not None and rules.max_seconds:
        raise ValueError(
            f"--max-stride counts nothing beside {rules.max_seconds:g} max_seconds; give both seconds as 0"
        )
    if recipe and recipe.scenes and split == recipe.split:
        _tell_counts(source, split, recipe.scenes, recipe.counted_in)
    protocol = make_protocol(options.out.stem, kind, source, split, rules, options.seed, options.scenes, print)
    write_protocol(options.out, protocol)
    left_out = f", {len(protocol.left_out)} scenes left out" if protocol.left_out else ""
    print(f"{options.out}: {len(protocol.samples)} samples of {rules.views} images{left_out}; sha256 {protocol.sha256}")
    return 0


def _check_numbers(options: argparse.Namespace) -> None:
    """ValueError naming the flag, before anything heavy is imported."""
    for name in ("scenes", "samples", "views", "min_cameras", "max_cameras", "max_stride"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be at least 1")
    for name in ("min_seconds", "max_seconds", "min_baseline"):
        if getattr(options, name) is not None and not getattr(options, name) >= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; it must not be negative")


def _tell_counts(source: Source, split: str, expected: int, counted_in: str) -> None:
    """Says so where the data is part of the split."""
    if (count := len(source.scenes(split))) != expected:
        print(
            f"{split} has {expected} scenes ({counted_in}), {count} are here: the protocol is another one than that of "
            "the whole split"
        )


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", metavar="PROTOCOL", type=path, help="file of make-protocol")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--out", type=path, required=True, help="folder to make: images/, told/ and truth/ by sample")


def _data(options: argparse.Namespace) -> int:
    from rig3r_jax.evaluation.protocol_data import IMAGES, TOLD, TRUTH, write_data
    from rig3r_jax.formats.atomic import whole_path

    protocol = read_protocol(options.protocol)
    source = make_source(protocol.source, options.root, protocol.options)
    check_root(type(source), options.root)
    if options.out.exists():
        raise ValueError(f"{options.out}: exists already; give a new folder, or remove it first")
    with whole_path(options.out) as out:
        count = write_data(protocol, source, out)
    places = f"{IMAGES}/SAMPLE/CAMERA/STEP.*, {TOLD}/SAMPLE/, {TRUTH}/SAMPLE/cameras.json"
    print(f"{options.out}: {count} samples: {places}")
    return 0


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "answers", metavar="ANSWER", nargs="+", type=path, help="folder of predictions, one per setting"
    )
    parser.add_argument("--protocol", metavar="FILE", type=path, required=True, help="file of make-protocol")


def _validate(options: argparse.Namespace) -> int:
    from rig3r_jax.evaluation.submission import check_submission

    protocol, code = read_protocol(options.protocol), 0
    for answer in options.answers:
        submission = check_submission(protocol, answer)
        for fault in submission.faults:
            print(fault)
        print(f"{answer}: {submission.summary(protocol)}")
        code = _FAULTS if submission.faults else code
    return code


COMMANDS = {
    "make-protocol": Command("list frames of a data set that systems are scored on", _make_arguments, _make),
    "protocol-data": Command("write a protocol's images, truth, and what may be told", _data_arguments, _data),
    "validate": Command("check predictions against a protocol: every fault", _validate_arguments, _validate),
}
