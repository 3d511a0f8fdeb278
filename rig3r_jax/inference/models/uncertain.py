"""The backbone of a run of `uncertainty` with its head: covariances beside the poses."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict

from rig3r_jax.inference.models import rig3r, vggt
from rig3r_jax.inference.models.network import About, NetworkModel
from rig3r_jax.inference.models.readings import SPREAD, Arrays, Rig3RReading, Spread, VggtReading, views_of_arrays
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.models.camera_head import CameraEstimate
from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import use_copies, workdir_config
from rig3r_jax.training.rig3r.initial import use_of
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.uncertainty.backbone import (
    AS_TRAINED,
    Backbone,
    Rig3RBackbone,
    VggtBackbone,
    check_backbone,
    predictions_and_features,
)
from rig3r_jax.uncertainty.head import abstract_params
from rig3r_jax.uncertainty.kept_windows import metres_per_unit
from rig3r_jax.uncertainty.objective import nll_options
from rig3r_jax.weights.convert import load_params

HEAD = "pose_uncertainty"  # beside the backbone's parameters


def open_run(workdir: str | Path, portable: bool = False) -> NetworkModel:
    """Of the newest checkpoint. It sees images as its backbone did when the head was trained.

    Raises:
        ValueError: the folder is no workdir; its backbone is gone, or is another one by now; the windows that the head
            was trained on, which tell the length of its metres, are kept no more.
        FileNotFoundError: the run has no checkpoint.
    """
    workdir = Path(workdir)
    config = workdir_config(workdir)
    path = Path(config.backbone.path)
    if not path.exists():
        raise ValueError(f"{workdir}: its backbone.path is {path}, which does not exist; put the backbone back")
    return (_with_rig3r if path.is_dir() else _with_vggt)(config, workdir, path, portable)


def _with_vggt(config: ConfigDict, workdir: Path, path: Path, portable: bool) -> NetworkModel:
    model, params = vggt.load(path, *load_params(path), portable)
    precise = model.clone(dtype=jnp.dtype(jnp.float32))  # as the head's windows passed it
    backbone = VggtBackbone(precise, _of_cameras(params), config.backbone.image_size, path.name)
    spread, head, step = _head(config, workdir, backbone)
    apply = _apply_head(config, backbone.width)

    def numbers(params: PyTree, camera: CameraEstimate) -> Array:
        return apply(params, camera.features[-1, 0])

    about = About(_name(workdir, step, backbone), vggt.USUAL_VIEWS, vggt.LICENCE, _notes(workdir))
    reading = VggtReading(config.backbone.image_size, model.patch, square=True, spread=spread)
    return NetworkModel(about, reading, vggt.function_of(model, numbers), params | {HEAD: head}, vggt.encode_of(model))


def _with_rig3r(config: ConfigDict, workdir: Path, path: Path, portable: bool) -> NetworkModel:
    run, params, _ = read_params(path)
    use_copies(run, 1)
    metadata = config.backbone.metadata
    backbone = Rig3RBackbone(PlacedModel(run, jax.devices()[:1]), params, metadata, path.name)
    spread, head, step = _head(config, workdir, backbone)
    model, apply, use = rig3r.built(run.model.to_dict(), portable), _apply_head(config, backbone.width), use_of(run)

    def predict(params: PyTree, arrays: Arrays) -> Arrays:
        predictions, features = predictions_and_features(model, params, views_of_arrays(arrays))
        outputs = {name: values[0] for name, values in vars(predictions).items()}
        return outputs | {SPREAD: apply(params, features[0])}

    about = dataclasses.replace(rig3r.about(_name(workdir, step, backbone), use), notes=_notes(workdir))
    groups = "all" if metadata == AS_TRAINED else metadata
    reading = Rig3RReading(use["image_size"], use["alpha"], groups, spread)
    return NetworkModel(about, reading, predict, {**params, HEAD: head}, rig3r.encode_of(model))


def _of_cameras(params: PyTree) -> PyTree:
    """Parameters of the VGGT that the head was trained on, which makes cameras alone."""
    return {name: params[name] for name in ("aggregator", "camera_head")}


def _head(config: ConfigDict, workdir: Path, backbone: Backbone) -> tuple[Spread, PyTree, int]:
    check_backbone(backbone, config, workdir)
    nll = nll_options(config)
    scale = metres_per_unit(config, workdir, backbone.digest)
    if scale is None:
        raise ValueError(
            f"{workdir}: the windows that its head was trained on, which tell what its metres are in the length unit "
            f"of {backbone.name}, are not there (config data.features); put them back, or give the backbone "
            f"{config.backbone.path} for poses without covariances"
        )
    params, step = restore_params(workdir, abstract_params(backbone.width, nll))
    return Spread(nll, scale), params, step


def _apply_head(config: ConfigDict, width: int):
    head = pose_uncertainty.build(width, config.nll.parameterisation)

    def apply(params: PyTree, features: Array) -> Array:
        return head.apply({"params": params[HEAD]}, features)

    return apply


def _name(workdir: Path, step: int, backbone: Backbone) -> str:
    return f"{backbone.name} with the pose uncertainty head of {workdir.absolute().name}, step {step}"


def _notes(workdir: Path) -> tuple[str, ...]:
    return (f"covariances of poses are by the head of {workdir.absolute().name}",)
