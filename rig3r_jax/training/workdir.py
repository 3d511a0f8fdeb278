"""A workdir taken up again: its config, its task, its newest parameters."""

from pathlib import Path

import jax

from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import load_config, use_devices
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.task import Task, open_task


def open_workdir(workdir: Path) -> tuple[Task, TrainState]:
    """The task of a workdir on whatever devices there are, and the state of its newest checkpoint.

    Raises:
        ValueError, FileNotFoundError: when the folder is no workdir or has no checkpoint.
    """
    config = load_config(workdir / "config.json")
    devices, rows = jax.device_count(), config.evaluation.batch_size
    if config.task == "rig3r" and rows % devices:
        raise ValueError(
            f"{workdir} is evaluated {rows} samples at a time (evaluation.batch_size), which must be a multiple of the "
            f"{devices} devices; show it fewer: CUDA_VISIBLE_DEVICES, or fewer tasks"
        )
    use_devices(config, devices)
    task = open_task(config, workdir)
    checkpoints = Checkpoints.found(workdir, config.train.keep_checkpoints)
    try:
        state, _ = checkpoints.restore(task.abstract_state)
    finally:
        checkpoints.close()
    return task, state


def task_name(workdir: Path) -> str:
    """config.task of a workdir; ValueError when it is none."""
    return load_config(workdir / "config.json").task


def evaluate_workdir(workdir: Path, task: str | None = None) -> None:
    """Evaluates the newest checkpoint and writes every file about it, as the end of the run does.

    ValueError where the run is of another task than `task`.
    """
    if task and task_name(workdir) != task:
        raise ValueError(
            f"{workdir} is a run of {task_name(workdir)}, not of {task}; train a head on it: "
            f"python main.py --config=configs/uncertainty_recipe.py --config.backbone.path={workdir} ..."
        )
    opened, state = open_workdir(workdir)
    opened.finish(state.trained_params, workdir, step=int(state.step))
