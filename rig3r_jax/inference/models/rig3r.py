"""Rig3R, of a training run's workdir or of the file that `rig3r export` makes of it."""

import json
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, PyTree, UInt8

from rig3r_jax.inference.models.network import About, Function, NetworkModel, execution
from rig3r_jax.inference.models.readings import Arrays, Rig3RReading, views_of_arrays
from rig3r_jax.models.rig3r import Rig3R, build, encoder_of, normalised
from rig3r_jax.training.rig3r.initial import EXECUTION, use_of
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.weights.convert import load_params


def open_run(workdir: str | Path, portable: bool = False) -> NetworkModel:
    """Of the newest checkpoint of a run. Raises what `read_params` raises."""
    config, params, step = read_params(workdir)
    name = f"Rig3R of {Path(workdir).absolute().name}, step {step}"
    return _model(name, config.model.to_dict(), use_of(config), params, portable)


def open_file(path: str | Path, portable: bool = False) -> NetworkModel:
    """Of a file of `rig3r export`. ValueError where it does not say how the model is used, as those of old."""
    params, metadata = load_params(path)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)  # of files in bfloat16
    if "use" not in metadata:
        raise ValueError(
            f"{path}: does not say what images its Rig3R sees, as files of earlier versions; write it again: "
            "rig3r export WORKDIR OUT"
        )
    name = f"Rig3R of {metadata['source']} ({Path(path).name})"
    return _model(name, json.loads(metadata["fields"]), json.loads(metadata["use"]), params, portable)


def built(fields: dict, portable: bool) -> Rig3R:
    """The model of config.model, to be run as `network.execution` says: how it was trained is of no account."""
    fields = {key: value for key, value in fields.items() if key not in EXECUTION}
    return build(**fields, **execution(portable), kind=jax.devices()[0].device_kind)


def about(name: str, use: dict) -> About:
    """What is told of a model; `use` is that of `training.rig3r.initial.use_of`."""
    started = use["started_from"]
    licence = started and f"the run started from the weights of {started}, whose licence goes with it"
    return About(name, use["num_views"], licence or None)


def encode_of(model: Rig3R):
    """Parameters and images to the image encoder's tokens."""
    encoder = encoder_of(model)

    def encode(params: PyTree, images: UInt8[Array, "n h w 3"]) -> Array:
        return encoder.apply({"params": params["encoder"]}, normalised(model, images))

    return encode


def function_of(model: Rig3R) -> Function:
    """The network without a batch axis."""

    def predict(params: PyTree, arrays: Arrays) -> Arrays:
        predictions = model.apply({"params": params}, views_of_arrays(arrays))
        return {name: values[0] for name, values in vars(predictions).items()}

    return predict


def _model(name: str, fields: dict, use: dict, params: PyTree, portable: bool) -> NetworkModel:
    model, reading = built(fields, portable), Rig3RReading(use["image_size"], use["alpha"])
    return NetworkModel(about(name, use), reading, function_of(model), params, encode_of(model))
