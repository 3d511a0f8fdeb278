"""Runs of a task that is nothing much, through the real command, loop and checkpoints: a whole one takes two seconds.

`python -m tests.tiny_run train --config=folder ...` is one as a process, or as one of several.
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax import cli
from rig3r_jax.cli import tasks
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.position import Position
from rig3r_jax.training.sharding import make_mesh, row_share, shardings_of, with_shardings
from rig3r_jax.training.state import TrainState, fresh_state
from rig3r_jax.training.step import make_train_step
from rig3r_jax.training.transfer import to_device
from tests import runs

WIDTH = 256  # of the kernel, whose numbers and moments take 200 kB each on the disk
ROWS = 4  # of a batch


def flags(workdir: Path, steps: int, *train: str) -> list[str]:
    """Flags of a run of so many steps; `train`: more of its section `train`, as `checkpoint_every=2`."""
    settings = (f"steps={steps}", "log_every=1", f"batch_size={ROWS}", "event_writer=tensorboard", *train)
    return [
        "--config=folder", f"--workdir={workdir}", "--config.optimizer.warmup_steps=0",
        "--config.evaluation.enabled=false", *(f"--config.train.{setting}" for setting in settings),
    ]  # fmt: skip


def run_here(flags: list[str], code: int = 0, before_step: Callable[[int], None] | None = None) -> str:
    """What a run in this process prints; see `runs.run_here`."""
    with mock.patch.object(tasks, "kind_of", lambda config: sys.modules[__name__]):
        return runs.run_here("train", *flags, code=code, before_step=before_step)


def main() -> int:
    """`rig3r` with this task, for the arguments of this process."""
    tasks.kind_of = lambda config: sys.modules[__name__]
    return cli.main()


def problems(config: ConfigDict, devices: int | None, ready=()) -> Iterator[str]:
    """None: this module is a training.task.TaskKind."""
    return iter(())


def use_devices(config: ConfigDict, count: int) -> None:
    """Nothing is evaluated."""


def open_task(config: ConfigDict, workdir: Path, out: Path | None = None) -> "TinyTask":
    return TinyTask(config)


class TinyTask:
    """A `training.task.Task`: one kernel, cut over `mesh.fsdp`, learns to send random rows to zero."""

    loss_name, ends_early, images_per_step, operations_per_step = "loss/total", False, ROWS, math.nan

    def __init__(self, config: ConfigDict):
        self.config = config
        self._mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
        self.devices = tuple(self._mesh.devices.flat)
        optimizer = optax.adam(1e-3)

        def fresh() -> TrainState:
            kernel = jax.random.normal(jax.random.key(config.seed), (WIDTH, WIDTH))
            return fresh_state({"layer": {"kernel": kernel}}, optimizer)

        self.abstract_state = with_shardings(self._mesh, jax.eval_shape(fresh))
        self.abstract_params = self.abstract_state.params
        self.init = jax.jit(fresh, out_shardings=shardings_of(self.abstract_state))
        step = make_train_step(self, optimizer, optax.constant_schedule(1e-3))
        self.train_step = jax.jit(step, donate_argnums=0, out_shardings=(shardings_of(self.abstract_state), None))

    def prepare(self, batch: PyTree) -> tuple[PyTree, PyTree]:
        return batch, ()

    def loss(self, params: PyTree, samples: PyTree, totals: PyTree) -> tuple[jax.Array, dict[str, Mean]]:
        loss = jnp.mean(jnp.square(samples[:, 0] @ params["layer"]["kernel"]))
        return loss, {"loss/total": Mean(loss, jnp.ones(()))}

    def batches(self, position: Position) -> "_Batches":
        return _Batches(self._mesh, position)

    def stopped(self, state: TrainState) -> bool:
        return False

    def short_evaluation(self, params: PyTree) -> dict[str, float]:
        return {}

    def finish(self, params: PyTree, workdir: Path, *, step: int, out: Path | None = None) -> None: ...


class _Batches:
    """Random rows, a function of the seed and the number of each."""

    def __init__(self, mesh: jax.sharding.Mesh, position: Position):
        self._mesh, self._position = mesh, position

    def __iter__(self) -> Iterator[jax.Array]:
        part, parts = row_share(self._mesh)
        first, rows = self._position.next_sample + part * ROWS // parts, ROWS // parts
        while True:
            generators = [np.random.default_rng([self._position.seed, number]) for number in range(first, first + rows)]
            samples = [generator.normal(size=(1, WIDTH)).astype(np.float32) for generator in generators]
            yield to_device(np.stack(samples), self._mesh)
            first += ROWS

    def close(self) -> None: ...

    def scalars(self) -> dict[str, float]:
        return {}


if __name__ == "__main__":
    sys.exit(main())
