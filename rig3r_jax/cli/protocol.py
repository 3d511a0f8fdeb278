"""Commands of protocols: lists of frames that any system is scored on."""

import argparse

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.cli.data import source_of
from rig3r_jax.data.source import check_root
from rig3r_jax.data.sources import SOURCES, make_source


def _make_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="options of the source, as of build-data")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--split", required=True, help="of the data set, such as val; of procedural unseen_rigs")
    parser.add_argument("--out", type=path, required=True, help="file to make; its name is the protocol's")
    parser.add_argument("--scenes", type=int, metavar="N", help="take as many, spread over the split (all)")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="of each scene (1)")
    parser.add_argument("--views", type=int, default=24, metavar="N", help="images of a sample (24)")
    parser.add_argument("--min-cameras", type=int, default=1, metavar="N", help="of a sample (1)")
    parser.add_argument("--max-cameras", type=int, default=8, metavar="N", help="of a sample (8)")
    parser.add_argument("--max-stride", type=int, default=4, metavar="N", help="time steps between two of a sample (4)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")


def _make(options: argparse.Namespace) -> int:
    source = source_of(options.source, options.root, options.settings)
    check_root(type(source), options.root)
    counts = ("scenes", "samples", "views", "min_cameras", "max_cameras", "max_stride")
    for name in counts:
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be at least 1")
    from rig3r_jax.evaluation.protocol import Rules, write_protocol
    from rig3r_jax.evaluation.protocol_data import make_protocol

    rules = Rules(options.views, options.min_cameras, options.max_cameras, options.max_stride, options.samples)
    protocol = make_protocol(
        options.out.stem, options.source, source, options.split, rules, options.seed, options.scenes, print
    )
    write_protocol(options.out, protocol)
    left_out = f", {len(protocol.left_out)} scenes left out" if protocol.left_out else ""
    print(f"{options.out}: {len(protocol.samples)} samples of {rules.views} images{left_out}; sha256 {protocol.sha256}")
    return 0


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", metavar="PROTOCOL", type=path, help="file of make-protocol")
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data")
    parser.add_argument("--out", type=path, required=True, help="folder to make: images/ and truth/ by sample")


def _data(options: argparse.Namespace) -> int:
    from rig3r_jax.evaluation.protocol import read_protocol
    from rig3r_jax.evaluation.protocol_data import IMAGES, TRUTH, write_data
    from rig3r_jax.formats.atomic import whole_path

    protocol = read_protocol(options.protocol)
    source = make_source(protocol.source, options.root, protocol.options)
    check_root(type(source), options.root)
    if options.out.exists():
        raise ValueError(f"{options.out}: exists already; give a new folder, or remove it first")
    with whole_path(options.out) as out:
        count = write_data(protocol, source, out)
    print(f"{count} samples: {options.out / IMAGES}/SAMPLE/CAMERA/STEP.*, {options.out / TRUTH}/SAMPLE/cameras.json")
    return 0


COMMANDS = {
    "make-protocol": Command("list frames of a data set that systems are scored on", _make_arguments, _make),
    "protocol-data": Command("write the images and the truth of a protocol", _data_arguments, _data),
}
