"""Commands that carry weights in and out."""

import argparse

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
    parser.add_argument("workdir", metavar="WORKDIR", type=path, help="folder of a run")
    parser.add_argument("out", metavar="OUT", type=path, help="the .safetensors file to write")


def _export(options: argparse.Namespace) -> int:
    if load_config(options.workdir / "config.json").task == "uncertainty":
        from rig3r_jax.uncertainty.export import save_head as save
    else:
        from rig3r_jax.training.rig3r.initial import save_run as save
    print(save(options.workdir, options.out))
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
        "write a run's newest parameters as a file: for config.model.init_from, or a head of pose uncertainty",
        _export_arguments,
        _export,
    ),
    "export-torch": Command(
        "write a run's or a converted file's weights for PyTorch", _export_torch_arguments, _export_torch
    ),
}
