"""A run that goes on from the file of its own parameters, where its checkpoint, eight times as large, cannot travel.

`rig3r export --bfloat16` writes the parameters with the step and the config of the run. On any machine it goes on from
there with the next sample, at the learning rate of that step (steps that were skipped count as taken). Parameters are
those of the file: the average, where the run keeps one. The optimizer's moments, which forget in 1 / (1 - b2) steps,
begin anew.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree
from ml_collections import ConfigDict

from rig3r_jax.training.rig3r.initial import init_problems, initialise
from rig3r_jax.training.state import TrainState
from rig3r_jax.weights.convert import load_metadata


def continue_problems(config: ConfigDict) -> Iterator[str]:
    """Why a run cannot go on from the file of config.train.continue_from: one line per problem with its remedy."""
    path = config.train.continue_from
    if Path(path).is_dir():
        yield (
            f"train.continue_from: {path} is a folder; a workdir goes on by itself (--workdir={path}), a file is one "
            "that `rig3r export` wrote"
        )
        return
    if problems := init_problems(path, config.model):
        yield from (problem.replace("model.init_from", "train.continue_from", 1) for problem in problems)
        return
    exported = _exported_run(load_metadata(path))
    if exported is None:
        yield (
            f"train.continue_from: {path} does not say where its run was; give a file that `rig3r export` wrote, or "
            "begin a new run with its parameters: --config.model.init_from"
        )
        return
    _, exported_config = exported
    for name, before, now in (  # sample n of a run is a function of the seed and n alone
        ("seed", exported_config.seed, config.seed),
        ("train.batch_size", exported_config.train.batch_size, config.train.batch_size),
    ):
        if before != now:
            yield (
                f"train.continue_from: {path} is of a run with {name}={before}, this config has {now}: "
                f"--config.{name}={before}"
            )


def continued(fresh: TrainState, config: ConfigDict) -> tuple[TrainState, str]:
    """A fresh state with parameters and step of config.train.continue_from; and a line about it."""
    path = config.train.continue_from
    state, report = initialise(fresh, path, config.model)
    exported = _exported_run(load_metadata(path))
    assert exported is not None, "checked by `continue_problems`"
    step, _ = exported

    def at_step(count: Int[Array, ""]) -> Int[Array, ""]:
        return jax.device_put(jnp.asarray(step, count.dtype), count.sharding)

    def schedule_at_step(node: PyTree) -> PyTree:  # the count that corrects the moments' bias stays 0
        return node._replace(count=at_step(node.count)) if _is_schedule(node) else node

    opt_state = jax.tree.map(schedule_at_step, state.opt_state, is_leaf=_is_schedule)
    return state.replace(step=at_step(state.step), opt_state=opt_state), report


def _is_schedule(node: PyTree) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _exported_run(metadata: Mapping[str, str]) -> tuple[int, ConfigDict] | None:
    """Step and config of the run of a file; None for files of another kind."""
    if not {"step", "config"} <= metadata.keys():
        return None
    return int(json.loads(metadata["step"])), ConfigDict(json.loads(metadata["config"]))
