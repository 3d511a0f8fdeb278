"""A workdir taken up again: its task and the parameters of its newest checkpoint."""

from pathlib import Path

import jax

from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import workdir_config
from rig3r_jax.training.task import TaskKind


def evaluate_workdir(workdir: Path, kind: TaskKind) -> None:
    """Evaluates the newest checkpoint and writes every file about it, as the end of the run does.

    Runs on whatever devices there are, and makes no optimizer.

    Raises:
        ValueError, FileNotFoundError: when the folder is no workdir or has no checkpoint.
    """
    config = workdir_config(workdir)
    kind.use_devices(config, jax.device_count())
    task = kind.open_task(config, workdir)
    params, step = restore_params(workdir, task.abstract_params)
    task.finish(params, workdir, step=step)
