"""A run's first parameters from a file of weights or another run, and a run's last parameters into a file."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.models.rig3r import VARIANTS, build
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.config import plain, workdir_config
from rig3r_jax.training.paths import without_places
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import abstract_params, build_model
from rig3r_jax.training.state import TrainState
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.convert import load_metadata, load_params, save_params, write_torch
from rig3r_jax.weights.engine import export, flatten, shapes
from rig3r_jax.weights.files import read_tensors
from rig3r_jax.weights.overlay import misfits, origins, overlay

KINDS = ("dust3r", "rig3r")  # of files that hold parameters of Rig3R
# Fields of config.model that change what parameters mean, not their shapes.
MEANING = ("position", "patch", "time_unit", "heads", "decoder_heads")
# Fields of no account for parameters; those of NUMBERS change what the model computes from them.
EXECUTION = ("init_from", "attention", "remat", "unroll", "dtype", "linear", "dpt_chunk")
NUMBERS = ("dtype", "linear")
_LISTED = 20  # misfits that a message lists


def init_problems(path: str | Path, model_config: ConfigDict) -> list[str]:
    """Why a run of config.model cannot start from the weights of `path`: one line per problem with its remedy.

    Looks at names and shapes only.
    """
    try:
        metadata, file_shapes = _of_workdir(Path(path)) if Path(path).is_dir() else _of_file(path)
        fields = _fields(model_config)
        model_shapes = shapes(abstract_params(build(**fields, backend="cpu")))
    except (ValueError, FileNotFoundError) as error:
        return [f"model.init_from: {error}"]
    return list(_problems(path, metadata, file_shapes, model_shapes, fields))


def initialise(
    fresh: TrainState | PyTree, path: str | Path, model_config: ConfigDict
) -> tuple[TrainState | PyTree, str]:
    """Lays the weights of a file, or of a run, over freshly initialised ones.

    Args:
        fresh: a state, whose average of the parameters is replaced too, or a tree of parameters.
        path: a file made by `rig3r convert`, or of a run's parameters; or the workdir of a run.
        model_config: config.model.

    Returns:
        The same with the leaves that the file has, placed as those were; and a report of what came from where.

    Raises:
        ValueError: the file is of another kind or model; names every tensor that does not fit, and the remedy.
    """
    params, metadata = _params_of_workdir(Path(path)) if Path(path).is_dir() else load_params(path)
    loaded = flatten(params)
    old = fresh.params if isinstance(fresh, TrainState) else fresh
    problems = list(_problems(path, metadata, shapes(loaded), shapes(old), _fields(model_config)))
    if problems:
        raise ValueError("\n".join(problems))
    new = overlay(old, loaded)
    if isinstance(fresh, TrainState):
        ema = overlay(fresh.ema, loaded) if fresh.ema else fresh.ema  # buffers of its own: the step is given both
        new = fresh.replace(params=new, ema=ema)
    return new, origins(path, metadata, loaded, flatten(old))


def export_run(workdir: str | Path, out: str | Path) -> str:
    """Writes the newest checkpoint's parameters under the names of the PyTorch twin, .safetensors or .pth."""
    _, params, step = read_params(workdir)
    tensors = export(params, rig3r.table(params))
    write_torch(out, tensors)
    return f"{workdir}, step {step} -> {out}: {len(tensors)} tensors under PyTorch's names"


def save_run(workdir: str | Path, out: str | Path, dtype: str = "float32") -> str:
    """Writes the newest checkpoint's parameters as a file that another run can start or go on from, and that
    `rig3r reconstruct` and `rig3r evaluate --on` take for the run; `dtype`: float32, or bfloat16 of half the size."""
    config, params, step = read_params(workdir)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, jnp.dtype(dtype)), params)
    save_params(out, params, _metadata(config, workdir, step))
    return f"{workdir}, step {step} -> {out}: {len(flatten(params))} parameters; --config.model.init_from={out}"


def _metadata(config: ConfigDict, workdir: str | Path, step: int) -> dict[str, str]:
    """What a file of a run's parameters says of them."""
    model = {key: value for key, value in config.model.to_dict().items() if key not in EXECUTION}
    fields = _fields(config.model)
    requires = {key: fields[key] for key in MEANING}
    described = {"fields": model, "requires": requires, "use": use_of(config), "step": step}
    described["config"] = without_places(plain(config))
    metadata = {"kind": "rig3r", "source": f"{Path(workdir).name}, step {step}"}
    return metadata | {key: json.dumps(value) for key, value in described.items()}


def _of_file(path: str | Path) -> tuple[dict[str, str], dict[str, jax.ShapeDtypeStruct]]:
    """Metadata and shapes of a file of weights."""
    return load_metadata(path), shapes(read_tensors(path))


def _of_workdir(workdir: Path) -> tuple[dict[str, str], dict[str, jax.ShapeDtypeStruct]]:
    """The same of a run, by its config. ValueError, FileNotFoundError where it is none of rig3r, or has not saved."""
    config = workdir_config(workdir)
    if config.task != "rig3r":
        return {"kind": config.task}, {}
    if not (steps := saved_steps(workdir / "checkpoints")):
        raise FileNotFoundError(f"{workdir} has no checkpoint to start from")
    return _metadata(config, workdir, steps[-1]), shapes(abstract_params(build_model(config, backend="cpu")))


def _params_of_workdir(workdir: Path) -> tuple[PyTree, dict[str, str]]:
    config, params, step = read_params(workdir)
    return params, _metadata(config, workdir, step)


def use_of(config: ConfigDict) -> dict[str, int | float | str]:
    """What a run's model is to be used with: side of its images and number of views, alpha of its loss, and the file
    whose weights it started from ("": none)."""
    return {
        "image_size": config.sampling.image_size,
        "num_views": config.sampling.num_views,
        "alpha": config.loss.alpha,
        "started_from": started_from(config),
    }


def started_from(config: ConfigDict) -> str:
    """The file or run whose weights a run started from, and whose terms go with them; "" for none.

    Of a run that goes on from a file of an earlier one it is what that one started from.
    """
    if (earlier := config.train.get("continue_from", "")) and not config.model.init_from:
        try:
            return json.loads(load_metadata(earlier)["use"])["started_from"]
        except (OSError, ValueError, KeyError):  # it is there no more: what it was is not known
            return Path(earlier).name
    return Path(config.model.init_from).name


def _problems(path, metadata, file_shapes, model_shapes, fields) -> Iterator[str]:
    """One line for every reason why the arrays of a file are none of a model's parameters."""
    kind = metadata["kind"]
    if kind not in KINDS:
        yield (
            f"model.init_from: {path} holds weights of {kind}, which are of another model than Rig3R; give a file of "
            f"kind {' or '.join(KINDS)}"
        )
        return
    theirs = json.loads(metadata.get("fields", "{}"))
    for key, value in json.loads(metadata.get("requires", "{}")).items():
        if fields.get(key) != value:
            flag = f"--config.model.{key}={value}"
            variants = [name for name, variant in VARIANTS.items() if variant.get(key) == value]
            if variants and fields["variant"] not in variants:
                flag = f"--config.model.variant={variants[0]}"
            yield f"model.{key} is {fields.get(key)!r}; the weights of {path} want {value!r}: {flag}"
    lines = misfits(file_shapes, model_shapes)
    if lines:
        more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        yield "\n    ".join(
            [
                f"model.init_from: {len(lines)} of {len(file_shapes)} arrays of {path} ({kind}) do not fit this model; "
                f"{_remedy(theirs, fields)}",
                *lines[:_LISTED],
                *more,
            ]
        )


def _remedy(theirs: dict, fields: dict) -> str:
    """Flags that make the model that of the file, as far as the file's fields tell."""
    sizes = {key: value for key, value in theirs.items() if key in VARIANTS["large"]}
    variants = [name for name, variant in VARIANTS.items() if all(variant[key] == sizes[key] for key in sizes)]
    flags = {key: value for key, value in theirs.items() if key in fields and fields[key] != value and key not in sizes}
    if sizes and variants and fields["variant"] not in variants:
        flags["variant"] = variants[0]
    words = " ".join(f"--config.model.{key}={value}" for key, value in flags.items())
    return f"try {words}" if words else f"it is of a model with {theirs}"


def _fields(model_config: ConfigDict) -> dict:
    """config.model as the fields of `build`, those of its variant too; heads as they are."""
    fields = {key: value for key, value in model_config.to_dict().items() if key != "init_from"}
    variant = VARIANTS.get(fields["variant"], {})
    heads = fields.get("heads") or variant.get("heads", 0)
    return {**variant, **fields, "heads": heads, "decoder_heads": fields.get("decoder_heads") or heads}
