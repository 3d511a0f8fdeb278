"""A path to a model, told by its content: `open_model`."""

import importlib
from collections.abc import Callable
from pathlib import Path

from rig3r_jax.inference.models.exported import MANIFEST
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.training.config import workdir_config
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import FORMAT, load_metadata
from rig3r_jax.weights.files import read_metadata, read_tensors
from rig3r_jax.weights.names import prefixes
from rig3r_jax.weights.shipped_models import located, shipped_names

EXPORTED = "exported network"
# What a path holds -> the function that opens it, module:name. A new family is a file with such functions, and its rows
# here; imported when wanted: an exported network needs no code of models.
FAMILIES = {
    "run of rig3r": "rig3r_jax.inference.models.rig3r:open_run",
    "file of rig3r": "rig3r_jax.inference.models.rig3r:open_file",
    "file of vggt": "rig3r_jax.inference.models.vggt:open_file",
    "checkpoint of vggt": "rig3r_jax.inference.models.vggt:open_checkpoint",
    "run of uncertainty": "rig3r_jax.inference.models.uncertain:open_run",
    EXPORTED: "rig3r_jax.inference.models.exported:load_exported",
}
SIZED = ("file of vggt", "checkpoint of vggt")  # which can see images of another size
WANTED = (
    "a model is a workdir of `rig3r train`, a file of `rig3r export` or `rig3r convert vggt`, a checkpoint of VGGT, a "
    f"folder of `rig3r export --stablehlo`, or one that comes with the package: {', '.join(shipped_names())}"
)


def open_model(path: str | Path, side: int | None = None, portable: bool = False) -> Model:
    """The model that a path holds.

    Args:
        path: the workdir of a run of rig3r or uncertainty; a file of `rig3r export` or `rig3r convert vggt`, a
            PyTorch checkpoint of VGGT (no pickle is executed); a folder of `rig3r export --stablehlo`; or, where there
            is no such path, the name of a model that comes with the package (`weights.shipped_models`).
        side: pixels of the longest side of what it sees, where that may be chosen: of VGGT's weights alone.
        portable: to be exported, see `network.execution`.

    Raises:
        ValueError, FileNotFoundError: it is none of these, or is damaged; one line that says what it is and what to do.
    """
    path = located(path)
    content = content_of(path)
    if content not in FAMILIES:
        raise ValueError(f"{path} is a {content}, which does not reconstruct; {WANTED}")
    if side is not None and content not in SIZED:
        raise ValueError(f"{path} is a {content}, which sees images as it was trained; leave the size out")
    if portable and content == EXPORTED:
        raise ValueError(f"{path} is exported already; give the model that it was made of")
    chosen = {"side": side, "portable": portable}
    return _opener(content)(path, **{name: value for name, value in chosen.items() if value})


def content_of(path: Path) -> str:
    """A key of FAMILIES, or another such name. Raises as `open_model`."""
    path = located(path)
    if path.is_dir():
        if (path / MANIFEST).exists():
            return EXPORTED
        if not (path / "config.json").exists():
            raise ValueError(f"{path}: a folder with neither config.json nor {MANIFEST}; {WANTED}")
        return f"run of {workdir_config(path).task}"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {WANTED}")
    if read_metadata(path).get("format") == FORMAT:
        return f"file of {load_metadata(path)['kind']}"
    names = read_tensors(path)
    if prefixes((f".{name}" for name in names), rf"(.*\.)?{vggt.TYPICAL}"):
        return "checkpoint of vggt"
    raise ValueError(f"{path}: {len(names)} tensors, none with a name of VGGT's trunk; {WANTED}")


def _opener(content: str) -> Callable[..., Model]:
    module, _, name = FAMILIES[content].partition(":")
    return getattr(importlib.import_module(module), name)
