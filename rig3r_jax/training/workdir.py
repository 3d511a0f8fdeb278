"""A workdir taken up again: its config, its task, its newest parameters."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

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
    devices = jax.device_count()
    if config.task == "rig3r":
        config.evaluation.batch_size = _evaluation_rows(config, devices)
    use_devices(config, devices)
    task = open_task(config, workdir)
    checkpoints = Checkpoints.found(workdir, config.train.keep_checkpoints)
    try:
        state, _ = checkpoints.restore(task.abstract_state)
    finally:
        checkpoints.close()
    return task, state


def _evaluation_rows(config: ConfigDict, devices: int) -> int:
    """Samples at a time on `devices`: on each no more than the run's own mesh gave it. Scores are pooled over samples.

    ValueError where no number of rows is a multiple of the devices and divides the samples.
    """
    samples, mesh = config.evaluation.samples, config.mesh
    most = max(config.evaluation.batch_size // (mesh.data * mesh.fsdp), 1) * devices
    fitting = [rows for rows in range(devices, most + 1, devices) if samples % rows == 0]
    if not fitting:
        raise ValueError(
            f"evaluation.samples={samples} is no multiple of {devices} devices; use fewer: CUDA_VISIBLE_DEVICES, or "
            "fewer tasks"
        )
    return fitting[-1]


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
