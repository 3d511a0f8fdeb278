"""A path to a model: `open_model`."""

from pathlib import Path

from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.models.rig3r import Rig3RModel


def open_model(path: str | Path) -> Model:
    """The model of a workdir of `rig3r train`. Raises what `read_params` raises."""
    return Rig3RModel(path)
