"""VGGT, of a file of `rig3r convert vggt` or of a PyTorch checkpoint as it came."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt8

from rig3r_jax.inference.models.network import About, Function, NetworkModel, execution
from rig3r_jax.inference.models.readings import SPREAD, Arrays, Spread, VggtReading
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.models import aggregator
from rig3r_jax.models.camera_head import CameraEstimate
from rig3r_jax.models.vggt import VGGT, aggregator_of, normalised
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import convert_in_memory, load_params

LICENCE = "the weights of VGGT are their authors': see the licence that they came with; they are not this project's"
USUAL_VIEWS = 24  # the most images of a scene in VGGT's training (Wang et al. 2025, section 4)
OUTPUTS = ("camera", "depth")  # depths with cameras make better points than the point head, which is left out


def open_file(path: str | Path, side: int | None = None, portable: bool = False) -> NetworkModel:
    """Of a file of `rig3r convert vggt`, or of a head that was trained on one: `rig3r export`.

    `side` is of the longest side of what it sees, in pixels; by default that of its position grid. ValueError where the
    patch does not divide it.
    """
    return _opened(path, *load_params(path), side, portable)


def open_checkpoint(path: str | Path, side: int | None = None, portable: bool = False) -> NetworkModel:
    """Of a PyTorch checkpoint or .safetensors under PyTorch's names, converted in memory. As `open_file`."""
    return _opened(path, *convert_in_memory("vggt", path), side, portable)


def load(
    path: str | Path, params: Mapping, metadata: Mapping[str, str], portable: bool, log_variance: bool = False
) -> tuple[VGGT, PyTree]:
    """The model of converted weights with the heads that a pass wants, as it is run here, and its parameters.

    ValueError where a head lacks.
    """
    lacking = [output for output in OUTPUTS if output not in json.loads(metadata["fields"])["outputs"]]
    if lacking:
        raise ValueError(f"{path}: this VGGT has no {' and no '.join(lacking)} head; give the weights of a whole one")
    return vggt.placed(params, metadata, outputs=OUTPUTS, log_variance=log_variance, **execution(portable))


def side_of(model: VGGT, side: int | None, path: str | Path) -> int:
    """The longest side of what the model sees."""
    if side is not None and (side < model.patch or side % model.patch):
        raise ValueError(f"{path}: VGGT sees sides of whole patches of {model.patch} pixels, not {side}; give another")
    return side or model.patch * model.position_grid


def function_of(model: VGGT, numbers: Callable[[PyTree, CameraEstimate], Array] | None = None) -> Function:
    """The network without a batch axis; `numbers` are those of a head of pose uncertainty, (v c)."""

    def predict(params: PyTree, arrays: Arrays) -> Arrays:
        output = model.apply({"params": params}, arrays["images"][None])
        outputs = {"encoding": output.camera.encoding[-1, 0].astype(jnp.float32)}
        outputs |= {"depth": output.depth[0], "depth_confidence": output.depth_confidence[0]}
        return outputs | ({} if numbers is None else {SPREAD: numbers(params, output.camera)})

    return predict


def encode_of(model: VGGT) -> Callable[[PyTree, UInt8[Array, "n h w 3"]], Array]:
    """Parameters and images to DINOv2's patch tokens."""
    encoder = aggregator.encoder_of(aggregator_of(model))

    def encode(params: PyTree, images: UInt8[Array, "n h w 3"]) -> Array:
        return encoder.apply({"params": params["aggregator"]["encoder"]}, normalised(model, images))

    return encode


def _opened(
    path: str | Path, params: Mapping, metadata: Mapping[str, str], side: int | None, portable: bool
) -> NetworkModel:
    spread, notes = _spread(metadata)
    model, params = load(path, params, metadata, portable, log_variance=spread is not None)
    about = About(f"VGGT of {Path(path).name}", USUAL_VIEWS, LICENCE, notes)
    function = function_of(model, None if spread is None else _log_variance)
    reading = VggtReading(side_of(model, side, path), model.patch, spread=spread)
    return NetworkModel(about, reading, function, params, encode_of(model))


def _spread(metadata: Mapping[str, str]) -> tuple[Spread | None, tuple[str, ...]]:
    """How the file's log-variances become covariances, where it says so, and what people are told of them."""
    if "metres_per_unit" in metadata:
        spread = Spread(NllOptions(), float(metadata["metres_per_unit"]))
        return spread, (f"covariances of poses are by the head of {metadata['pose_log_var'].partition(';')[0]}",)
    if "initialised" in metadata or not json.loads(metadata["fields"])["log_variance"]:
        return None, ()
    return None, (
        "the file's log-variances of poses are left out: it does not say what length their metres are in its unit; "
        "`rig3r export` of the head's workdir, beside the features that it was trained on, writes one that does",
    )


def _log_variance(params: PyTree, camera: CameraEstimate) -> Array:
    return camera.log_variance[-1, 0]
