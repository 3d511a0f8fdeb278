"""The tasks that a run can be about, by the name in `config.task`."""

import importlib

from ml_collections import ConfigDict

from rig3r_jax.training.task import TaskKind

TASKS = {
    "rig3r": "rig3r_jax.training.rig3r.task",
    "uncertainty": "rig3r_jax.uncertainty.task",
}


def kind_of(config: ConfigDict) -> TaskKind:
    """The module of the config's task; ValueError for an unknown name."""
    if config.task not in TASKS:
        raise ValueError(f"task is {config.task!r}; it must be one of {', '.join(TASKS)}")
    return importlib.import_module(TASKS[config.task])
