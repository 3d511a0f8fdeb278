"""Flags of `rig3r bench`, one function per kind. Imports nothing heavy: `rig3r --help` reads it."""

import argparse

RESULTS = "benchmarks/results"


def add_kinds(bench: argparse.ArgumentParser) -> None:
    """Adds `bench train|inference|attention|data|scaling`; each kind is a module of this folder with `command`."""
    kinds = bench.add_subparsers(dest="kind", required=True)
    for name, (module, text, add) in KINDS.items():
        parser = kinds.add_parser(name, help=text)
        add(parser)
        parser.add_argument("--out", default=RESULTS, help=f"folder of the JSON, {RESULTS} by default; '' writes none")
        parser.add_argument("--name", help="name of the JSON file; by default made from kind, config and device")
        parser.set_defaults(module=f"rig3r_jax.benchmarks.{module}")


def _shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, help="samples; by default the config's, or one per device")
    parser.add_argument("--views", type=int, help="images per sample; by default the config's")
    parser.add_argument("--size", type=int, help="pixels of an image's side; by default the config's")


def _repeats(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--repeats", type=int, default=default, help="timed calls, of which the median is shown")
    parser.add_argument("--warmup", type=int, default=3, help="calls before those")


def _peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", choices=("torch",), help="time PyTorch, under torch.compile, in the same run")
    parser.add_argument(
        "--sdpa",
        nargs="+",
        choices=("default", "flash", "cudnn", "efficient"),
        help="kernels of torch's attention; by default flash and cudnn on a GPU",
    )


def _train(parser: argparse.ArgumentParser) -> None:
    _shape(parser)
    _repeats(parser, 20)
    parser.add_argument("--breakdown", action="store_true", help="also where the time of a step goes, by part")
    _peer(parser)


def _inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, nargs="+", default=(1, 8, 24, 50, 100, 200), help="images per call")
    parser.add_argument("--size", type=int, help="pixels of an image's side; by default the config's")
    _repeats(parser, 5)
    _peer(parser)


def _attention(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", metavar="B,N,K,D", help="batch, tokens, heads, width of a head; may be repeated"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="by default what the device is for")
    _repeats(parser, 10)
    _peer(parser)


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", default="", help="ddad, tum or sevenscenes; by default procedural, or the config's")
    parser.add_argument("--root", default="", help="folder of the raw data")
    parser.add_argument("--records", default="", help="folder of built records; by default built in a temporary one")
    parser.add_argument("--split", default="train", help="of the records")
    parser.add_argument("--views", type=int, help="images per sample; by default the config's, or 24")
    parser.add_argument("--size", type=int, help="pixels of an image's side; by default the config's, or 512")
    parser.add_argument("--batch", type=int, help="samples per batch; by default 8 of a config, or 1")
    parser.add_argument("--samples", type=int, default=16, help="samples that are timed, after as many before")
    parser.add_argument("--threads", type=int, nargs="+", help="loader threads to compare; by default 1 and the cores")
    parser.add_argument("options", nargs="*", metavar="key=value", help="options of the source")


def _scaling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, nargs="+", default=(8, 32, 128, 1024), help="device counts to compile")
    parser.add_argument("--fsdp", type=int, default=1, help="devices that one copy of the state is cut over")
    parser.add_argument("--frames", type=int, default=1, help="devices that the images of a sample are cut over")
    parser.add_argument("--per-node", type=int, default=8, help="devices of a node")
    parser.add_argument("--matmul-tflops", type=float, default=650.0, help="of linear layers, per device")
    parser.add_argument("--attention-tflops", type=float, default=430.0, help="of the attention kernel, per device")
    parser.add_argument("--memory-gb-s", type=float, default=3350.0, help="bandwidth of a device's memory")
    parser.add_argument("--node-gb-s", type=float, default=450.0, help="link between devices of a node, one direction")
    parser.add_argument("--network-gb-s", type=float, default=50.0, help="network per device between nodes")
    parser.add_argument("--hop-us", type=float, default=10.0, help="latency that a doubling of the nodes adds")
    parser.add_argument("--device-gb", type=float, default=80.0, help="memory of a device")


KINDS = {
    "train": ("train", "the training step: seconds, memory, MFU", _train),
    "inference": ("inference", "images to points and cameras, end to end", _inference),
    "attention": ("attention", "every attention of this device, forward and backward", _attention),
    "data": ("data_loading", "records to batches: images per second, by stage", _data),
    "scaling": ("scaling", "the step compiled for many devices: bytes, collectives, predicted seconds", _scaling),
}
