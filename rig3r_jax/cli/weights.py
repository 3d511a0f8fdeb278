"""Commands that carry weights in and out."""

import argparse
import re

from rig3r_jax.cli.command import Command, path
from rig3r_jax.training.config import load_config

KINDS = {  # what a file made of them is for
    "dust3r": "config.model.init_from",
    "dinov2": "weights.vggt.initialise",
    "vggt": "config.backbone.path and weights.vggt.load",
    "open-rig3r": "models.open_rig3r",
}


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    uses = ", ".join(f"{kind} (for {use})" for kind, use in KINDS.items())
    parser.add_argument("kind", metavar="KIND", choices=tuple(KINDS), help=f"whose weights they are: {uses}")
    file = ".safetensors, a PyTorch checkpoint, or the *.index.json of weights in parts; no pickle is executed"
    parser.add_argument("file", metavar="FILE", type=path, help=file)
    parser.add_argument("out", metavar="OUT", type=path, help="the .safetensors file to write")
    settings = "settings that cannot be inferred from tensor shapes, such as heads=12"
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=settings)


def _convert(options: argparse.Namespace) -> int:
    from rig3r_jax.weights.convert import convert_file

    print(convert_file(options.kind, options.file, options.out, options.settings))
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=path, help="folder of a run; with --stablehlo any model of `rig3r reconstruct`"
    )
    parser.add_argument(
        "out", metavar="OUT", type=path, help="the .safetensors file, or with --stablehlo folder, to write"
    )
    stablehlo = "write a network that runs without the code of its model, for one number and size of images"
    parser.add_argument("--stablehlo", action="store_true", help=stablehlo)
    parser.add_argument("--views", type=int, metavar="N", help="images of a pass (as many as it was trained on)")
    parser.add_argument("--size", metavar="HxW", help="height x width that it sees (those of 4:3 images)")
    parser.add_argument("--bfloat16", action="store_true", help="write a file of half the size, rounded to bfloat16")
    parser.add_argument(
        "--card", action="store_true", help="write OUT.md too: the run's data, figures and limits, of its evaluation"
    )


def _export(options: argparse.Namespace) -> int:
    if options.stablehlo:
        for name in ("bfloat16", "card"):
            if getattr(options, name):
                raise ValueError(f"--{name} is of a file of weights; leave it or --stablehlo out")
        return _export_stablehlo(options)
    for name in ("views", "size"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is of an exported network; say --stablehlo too")
    if load_config(options.model / "config.json").task == "uncertainty":
        if options.bfloat16 or options.card:
            raise ValueError(f"{options.model}: is a run of uncertainty; --bfloat16 and --card are of runs of rig3r")
        from rig3r_jax.uncertainty.export import save_head

        print(save_head(options.model, options.out))
        return 0
    from rig3r_jax.training.rig3r.card import evaluation_of, write_card
    from rig3r_jax.training.rig3r.initial import save_run

    evaluation = evaluation_of(options.model) if options.card else {}
    print(save_run(options.model, options.out, "bfloat16" if options.bfloat16 else "float32"))
    if options.card:
        print(write_card(options.model, evaluation, options.out))
    return 0


def _export_stablehlo(options: argparse.Namespace) -> int:
    from rig3r_jax.inference.models.exported import new_folder, write_exported
    from rig3r_jax.inference.models.open import SIZED, content_of, open_model

    size = None
    if options.size is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", options.size)
        if not match:
            raise ValueError(f"--size {options.size}: say height x width in pixels, such as 392x518")
        size = int(match[1]), int(match[2])
    if options.views is not None and options.views < 1:
        raise ValueError(f"--views {options.views}: a pass has at least 1 image")
    new_folder(options.out)
    side = max(size) if size and content_of(options.model) in SIZED else None
    model = open_model(options.model, side, portable=True)
    print(write_exported(model, options.out, options.views or model.usual_views, size or model.input_size([(3, 4)])))
    return 0


def _export_torch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="WORKDIR",
        type=path,
        help="folder of a run, of which the newest checkpoint is taken; or a file that `convert` or `export` wrote",
    )
    parser.add_argument("out", metavar="OUT", type=path, help="the .safetensors or .pth file to write")


def _export_torch(options: argparse.Namespace) -> int:
    from rig3r_jax.training.rig3r.initial import export_run
    from rig3r_jax.weights.convert import export_torch

    if not options.source.exists():
        raise ValueError(f"{options.source} does not exist; give a workdir, or a file of `convert` or `export`")
    export = export_run if options.source.is_dir() else export_torch
    print(export(options.source, options.out))
    return 0


COMMANDS = {
    "convert": Command("turn PyTorch weights into a file that this package reads", _convert_arguments, _convert),
    "export": Command(
        "write a run's newest parameters as a file, or --stablehlo: a model as a network that runs without its code",
        _export_arguments,
        _export,
    ),
    "export-torch": Command(
        "write a run's or a converted file's weights for PyTorch", _export_torch_arguments, _export_torch
    ),
}
