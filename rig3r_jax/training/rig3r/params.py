"""The parameters that a run of Rig3R has learnt, read from its workdir alone."""

from pathlib import Path

from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import workdir_config
from rig3r_jax.training.rig3r.setup import abstract_params, build_model


def read_params(workdir: str | Path) -> tuple[ConfigDict, PyTree, int]:
    """Config, parameters to evaluate (numpy arrays) and step of the newest checkpoint of a run.

    Needs neither the run's records nor its optimizer, whose moments stay on disk, nor the packages of training.

    Raises:
        ValueError: the folder is no workdir, or one of another task; the checkpoint is not of the model of its config.
        FileNotFoundError: the run has no checkpoint.
    """
    config = workdir_config(Path(workdir))
    if config.task != "rig3r":
        raise ValueError(
            f"{workdir} is a run of {config.task}; give the workdir of a run of rig3r: that one holds no Rig3R, and "
            "its head goes to a file by `rig3r export`"
        )
    params, step = restore_params(Path(workdir), abstract_params(build_model(config, backend="cpu")))
    return config, params, step
