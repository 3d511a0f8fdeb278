"""What a run of Rig3R has learnt, with its config: from its workdir alone, or from the file of `rig3r export`."""

import json
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import config_from, workdir_config
from rig3r_jax.training.rig3r.setup import abstract_params, build_model
from rig3r_jax.weights.convert import load_metadata, load_params
from rig3r_jax.weights.engine import flatten, shapes
from rig3r_jax.weights.overlay import misfits, overlay


def read_params(path: str | Path) -> tuple[ConfigDict, PyTree, int]:
    """Config, parameters to evaluate (numpy arrays) and step of the newest checkpoint of a run.

    Needs neither the run's records nor its optimizer, whose moments stay on disk, nor the packages of training.

    Raises:
        ValueError: the path is no workdir or exported file, or one of another task; the checkpoint is not of the model
            of its config.
        FileNotFoundError: the run has no checkpoint.
    """
    config = run_config(path)
    params, step = restored_params(path, abstract_params(build_model(config, backend="cpu")))
    return config, params, step


def run_config(path: str | Path) -> ConfigDict:
    """The config of a run of rig3r. Raises ValueError as `read_params`."""
    path = Path(path)
    if path.is_file():
        metadata = load_metadata(path)
        if metadata["kind"] != "rig3r" or "config" not in metadata:
            raise ValueError(
                f"{path}: does not hold the config of a run of rig3r, as files of earlier versions and of other "
                "models; write it again: rig3r export WORKDIR OUT"
            )
        return config_from(json.loads(metadata["config"]), path)
    config = workdir_config(path)
    if config.task != "rig3r":
        raise ValueError(
            f"{path} is a run of {config.task}; give the workdir of a run of rig3r: that one holds no Rig3R, and "
            "its head goes to a file by `rig3r export`"
        )
    return config


def restored_params(path: str | Path, abstract: PyTree) -> tuple[PyTree, int]:
    """As `training.checkpoint.restore_params`, of a workdir or an exported file."""
    path = Path(path)
    if not path.is_file():
        return restore_params(path, abstract)
    params, metadata = load_params(path)
    loaded, expected = flatten(params), flatten(abstract)
    lines = [*misfits(shapes(loaded), shapes(expected)), *(f"{name}: is missing" for name in expected.keys() - loaded)]
    if lines:
        raise ValueError(f"{path}: does not hold the parameters of its config:\n  " + "\n  ".join(lines[:8]))
    if all(leaf.sharding is None for leaf in jax.tree.leaves(abstract)):
        params = jax.tree.map(lambda new, old: np.asarray(new, old.dtype), params, abstract)
    else:
        params = overlay(abstract, loaded)
    return params, int(metadata["step"])
