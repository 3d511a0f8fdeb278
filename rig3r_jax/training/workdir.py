"""A workdir taken up again: its task and its newest state."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import load_config
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.task import Task, TaskKind


def workdir_config(workdir: Path) -> ConfigDict:
    """The config that a workdir was trained with; ValueError when the folder is no workdir."""
    return load_config(workdir / "config.json")


def open_workdir(workdir: Path, kind: TaskKind) -> tuple[Task, TrainState]:
    """The task of a workdir on whatever devices there are, and the state of its newest checkpoint.

    Raises:
        ValueError, FileNotFoundError: when the folder is no workdir or has no checkpoint.
    """
    config = workdir_config(workdir)
    kind.use_devices(config, jax.device_count())
    task = kind.open_task(config, workdir)
    checkpoints = Checkpoints.found(workdir, config.train.keep_checkpoints)
    try:
        state, _ = checkpoints.restore(task.abstract_state)
    finally:
        checkpoints.close()
    return task, state


def evaluate_workdir(workdir: Path, kind: TaskKind) -> None:
    """Evaluates the newest checkpoint and writes every file about it, as the end of the run does."""
    task, state = open_workdir(workdir, kind)
    task.finish(state.trained_params, workdir, step=int(state.step))
