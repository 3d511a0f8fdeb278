"""Flags of `rig3r bench`, one function per kind. Imports nothing heavy: the command line reads it first."""

import argparse
import dataclasses
import os
from collections.abc import Callable

from rig3r_jax.data.sources import SOURCES

RESULTS = "benchmarks/results"


@dataclasses.dataclass(frozen=True)
class Kind:
    """`rig3r bench NAME`: a module of this folder with `command`, its flags, what --config is to it and its extra."""

    module: str
    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    config: str = ""
    extra: str = ""

    def add_all(self, parser: argparse.ArgumentParser) -> None:
        """Declares its flags and those of every kind."""
        self.add_flags(parser)
        parser.add_argument(
            "--out",
            type=os.path.expanduser,
            default=RESULTS,
            help=f"folder of the JSON, {RESULTS} by default; '' writes none",
        )
        parser.add_argument("--name", help="name of the JSON file; by default made from kind, config and device")


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, not below `lowest`."""

    def whole_number(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number") from None
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text} must be at least {lowest}")
        return number

    return whole_number


def _shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=at_least(1), help="samples; by default the config's, or one per device")
    parser.add_argument("--views", type=at_least(1), help="images per sample; by default the config's")
    parser.add_argument("--size", type=at_least(1), help="pixels of an image's side; by default the config's")


def _repeats(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--repeats", type=at_least(1), default=default, help="timed calls, of which the median is shown"
    )
    parser.add_argument("--warmup", type=at_least(0), default=3, help="calls before those")
    parser.add_argument(
        "--limit-seconds", type=at_least(1), help="begin nothing more after these; what is done is kept"
    )


def _peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", choices=("torch",), help="time PyTorch, under torch.compile, in the same run")
    parser.add_argument(
        "--sdpa",
        nargs="+",
        choices=("default", "flash", "flash3", "cudnn", "efficient"),
        help="kernels of torch's attention; by default flash, cudnn and flash3 (FlashAttention-3) on a GPU",
    )


def _train(parser: argparse.ArgumentParser) -> None:
    _shape(parser)
    _repeats(parser, 20)
    parser.add_argument("--breakdown", action="store_true", help="also where the time of a step goes, by part")
    parser.add_argument("--profile", action="store_true", help="also the device's time by kind of kernel and part")
    _peer(parser)


def _inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=at_least(1), nargs="+", default=(1, 8, 24, 50, 100, 200), help="images per call"
    )
    parser.add_argument("--size", type=at_least(1), help="pixels of an image's side; by default the config's")
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
    sources, path = ", ".join(SOURCES), os.path.expanduser
    parser.add_argument("--source", default="", help=f"one of {sources}; by default procedural, or the config's")
    parser.add_argument("--root", type=path, default="", help="folder of the raw data")
    parser.add_argument("--records", type=path, default="", help="folder of built records; by default a temporary one")
    parser.add_argument("--split", default="train", help="of the records")
    parser.add_argument("--views", type=at_least(1), help="images per sample; by default the config's, or 24")
    parser.add_argument("--size", type=at_least(1), help="pixels of an image's side; by default the config's, or 512")
    parser.add_argument("--batch", type=at_least(1), help="samples per batch; by default 8 of a config, or 1")
    parser.add_argument("--samples", type=at_least(1), default=16, help="samples that are timed, after as many before")
    parser.add_argument(
        "--threads", type=at_least(1), nargs="+", help="loader threads to compare; by default 1 and the cores"
    )
    parser.add_argument(
        "--each",
        nargs="*",
        metavar="NAME=ROOT",
        help="a line for each of several data sets, such as procedural ddad=/data/ddad; without any those of the "
        "config's mixture that have a root",
    )
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options of the source")


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--megabytes", type=at_least(1), nargs="+", default=(5, 1_500), help="of states to save; 5 and 1,500 by default"
    )
    parser.add_argument("--folder", type=os.path.expanduser, default="", help="on the disk to measure; or a temporary")
    parser.add_argument("--repeats", type=at_least(1), default=3, help="saves, of which the median is shown")


def _scaling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--devices", type=at_least(1), nargs="+", default=(8, 32, 128, 1024), help="device counts to compile"
    )
    parser.add_argument("--fsdp", type=at_least(1), default=1, help="devices that one copy of the state is cut over")
    parser.add_argument(
        "--frames", type=at_least(1), default=1, help="devices that the images of a sample are cut over"
    )
    parser.add_argument("--per-node", type=at_least(1), default=8, help="devices of a node")
    parser.add_argument(
        "--compiler",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: collectives and overlap from XLA's compiler for an H100 (needs the extra cuda13, no GPU)",
    )
    parser.add_argument("--matmul-tflops", type=float, default=650.0, help="of linear layers, per device")
    parser.add_argument("--attention-tflops", type=float, default=430.0, help="of the attention kernel, per device")
    parser.add_argument("--memory-gb-s", type=float, default=3350.0, help="bandwidth of a device's memory")
    parser.add_argument("--node-gb-s", type=float, default=450.0, help="link between devices of a node, one direction")
    parser.add_argument("--network-gb-s", type=float, default=50.0, help="network per device between nodes")
    parser.add_argument("--hop-us", type=float, default=10.0, help="latency that a doubling of the nodes adds")
    parser.add_argument("--device-gb", type=float, default=80.0, help="memory of a device")


def _program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        choices=("h100", "h200", "local"),
        default="h100",
        help="the card to compile for, which need not be there; local: the devices that JAX finds",
    )
    parser.add_argument("--hosts", type=at_least(1), default=1, help="machines")
    parser.add_argument("--per-host", type=at_least(1), default=1, help="GPUs of each")
    parser.add_argument("--what", choices=("step", "predict"), default="step", help="training step, or forward pass")
    parser.add_argument("--fsdp", type=at_least(1), default=1, help="devices that one copy of the state is cut over")
    parser.add_argument(
        "--frames", type=at_least(1), default=1, help="devices that the images of a sample are cut over"
    )


def _fusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drives", type=at_least(1), default=10, help="held-out procedural drives, of unseen rigs")
    parser.add_argument("--steps", type=at_least(2), default=20, help="time steps of each")
    parser.add_argument("--window-steps", type=at_least(2), default=4, help="time steps of a window")
    parser.add_argument("--overlap-steps", type=at_least(1), default=2, help="steps that a window shares with the next")
    parser.add_argument(
        "--noise", type=float, nargs="+", default=(0.001, 0.002, 0.005, 0.01), help="sizes of the drawn errors"
    )
    parser.add_argument(
        "--wild", type=float, nargs="+", default=(0.0, 0.05), help="shares of grossly wrong views among the drawn ones"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of drives and errors")
    parser.add_argument(
        "--workdir", type=os.path.expanduser, help="also predictions of this run of Rig3R, from the drives' images"
    )


def _discovery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rigs", type=at_least(5), default=200, help="rigs of the certainties; a fifth of the noise's")
    parser.add_argument("--check-rigs", type=at_least(1), default=200, help="rigs whose calibration is checked")
    parser.add_argument(
        "--law", action="store_true", help="instead: the powers of the certainties' law beside others, on other rigs"
    )
    parser.add_argument("--drives", type=at_least(1), default=40, help="held-out procedural drives of --workdir's rows")
    parser.add_argument("--images", type=at_least(2), default=12, help="of each, in one pass: one compiled program")
    parser.add_argument("--workdir", type=os.path.expanduser, help="also predictions of this run of Rig3R")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of rigs and errors")


def _drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=at_least(12), default=1000, help="of the drive")
    parser.add_argument("--cameras", type=at_least(1), nargs="+", default=(1, 6), help="of the rig")
    parser.add_argument("--size", type=at_least(4), default=24, help="images of a window at most")
    parser.add_argument("--overlap", type=float, nargs="+", default=(0.2, 0.4, 0.6), help="shares of a window")
    parser.add_argument("--laps", type=float, default=1.25, help="of the road that the drive takes")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between time steps, at 6 m/s")
    parser.add_argument("--sigma", type=float, default=0.01, help="error of positions along each axis, in mean depths")
    parser.add_argument("--sigma-deg", type=float, default=0.5, help="error of rotations about each axis")
    parser.add_argument("--false-loops", type=at_least(0), default=5, help="wrong loops of the last rows")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of world and errors")
    parser.add_argument(
        "--model", type=os.path.expanduser, help="what this model says of the drive's images, instead of noisy truth"
    )


def _intervals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", nargs="+", type=at_least(3), default=[5, 10, 20, 50], help="of an evaluation")
    parser.add_argument("--evaluations", type=at_least(1), default=2000, help="that are simulated (2000)")
    parser.add_argument("--resamples", type=at_least(100), default=2000, help="of the bootstrap (2000)")


def _worlds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drives", type=at_least(1), default=300, help="of each kind of worlds, for the closed form")
    parser.add_argument("--intervals", type=float, nargs="+", default=(0.5, 1.0), help="seconds between time steps")
    parser.add_argument("--sizes", type=at_least(8), nargs="+", default=(64, 128, 256), help="pixels, of images' sides")
    parser.add_argument("--images", type=at_least(1), default=200, help="that are rendered of each kind and size")


def _recipes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", type=os.path.expanduser, help="workdirs, the first as basis")
    parser.add_argument(
        "--metric", default="evaluation/unseen_rigs/none/mAA30", help="that train.evaluate_every logs (%(default)s)"
    )


KINDS = {
    "train": Kind("train", "the training step: seconds, memory, MFU", _train, "the model: --config=full"),
    "inference": Kind("inference", "images to points and cameras, end to end", _inference, "the model: --config=full"),
    "attention": Kind("attention", "every attention of this device, forward and backward", _attention),
    "data": Kind(
        "data_loading",
        "records to batches: images per second, by stage",
        _data,
        "optional: a run whose source and sampling are the defaults of the flags",
        "train",
    ),
    "checkpoint": Kind(
        "checkpoint", "saving and restoring a state, and what checksums take of it", _checkpoint, extra="train"
    ),
    "fusion": Kind("fusion", "windows of cameras joined with and without the rig: errors, scale", _fusion),
    "discovery": Kind("discovery", "rigs found out from ray maps, and calibrations checked", _discovery),
    "worlds": Kind("worlds", "procedural worlds: what rig and clock tell of their poses, images per second", _worlds),
    "recipes": Kind("recipes", "a metric of runs against their steps, beside what differs in their configs", _recipes),
    "drift": Kind("drift", "a long drive that comes back, in windows: drift with and without loops", _drift),
    "intervals": Kind(
        "intervals", "how often intervals over scenes hold the truth, in simulated evaluations", _intervals
    ),
    "program": Kind(
        "program",
        "what the compiled step runs on a GPU, kernel by kernel; no GPU needed",
        _program,
        "the model: --config=full",
    ),
    "scaling": Kind(
        "scaling",
        "the step compiled for many devices: bytes, collectives, predicted seconds",
        _scaling,
        "the model: --config=full",
    ),
}
