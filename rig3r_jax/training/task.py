"""What a run is about: the one thing that the loop knows of model and data."""

import typing
from collections.abc import Container, Iterator
from pathlib import Path

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.training.checks import number_problems
from rig3r_jax.training.position import Position
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.step import TrainStep


@typing.runtime_checkable
class Batches(typing.Protocol):
    """Global batches on the device, from some sample on."""

    def __iter__(self) -> Iterator[PyTree]: ...

    def close(self) -> None:
        """Ends its threads, and says in the log what was left out."""
        ...

    def scalars(self) -> dict[str, float]:
        """What the metrics shall show of the data."""
        ...


@typing.runtime_checkable
class Task(typing.Protocol):
    """A model with its data: what the loop trains, evaluates and reports on."""

    config: ConfigDict
    abstract_state: TrainState  # ShapeDtypeStructs with shardings
    abstract_params: PyTree  # the same of the parameters alone
    train_step: TrainStep
    devices: tuple[jax.Device, ...]
    loss_name: str  # metric that the progress bar shows
    images_per_step: int
    ends_early: bool  # training may be over before its last step
    operations_per_step: float  # floating-point operations, for MFU; NaN: not counted

    def init(self) -> TrainState:
        """A fresh state, placed."""
        ...

    def batches(self, position: Position) -> Batches:
        """Those from `position` on."""
        ...

    def stopped(self, state: TrainState) -> bool:
        """Whether the state says that training has ended early; asked after every step where `ends_early`."""
        ...

    def short_evaluation(self, params: PyTree) -> dict[str, float]:
        """Scalars for the metrics, while training."""
        ...

    def finish(self, params: PyTree, workdir: Path, *, step: int, out: Path | None = None) -> None:
        """Evaluates `params` and writes every file about them, into `out` or else the workdir."""
        ...


@typing.runtime_checkable
class TaskKind(typing.Protocol):
    """The module of a task: whoever starts a run looks it up by `config.task` and hands it down."""

    def problems(self, config: ConfigDict, devices: int | None, ready: Container[int] = ()) -> Iterator[str]:
        """What keeps a config from running, but for what no task can run with; `ready`: see `mixture_problems`."""
        ...

    def open_task(self, config: ConfigDict, workdir: Path, out: Path | None = None) -> Task:
        """Data and model of a run: built, or found built.

        `out`: folder of the files of an evaluation, which builds no records, and writes nothing elsewhere.
        """
        ...

    def use_devices(self, config: ConfigDict, count: int) -> None:
        """Sets a config to evaluate on `count` devices, wherever it was trained."""
        ...


def validate(config: ConfigDict, kind: TaskKind, *, devices: int | None = None, ready: Container[int] = ()) -> None:
    """Checks all that can be checked before device work.

    Args:
        config: a whole config.
        kind: the module of its task.
        devices: how many devices the run finds; None leaves the mesh unchecked.
        ready: entries of data.mixture whose records are built.

    Raises:
        ValueError: one message with every problem: key, value, rule, remedy.
    """
    if problems := [*kind.problems(config, devices, ready), *number_problems(config)]:
        raise ValueError("this configuration cannot run:\n" + "\n".join(f"  * {problem}" for problem in problems))
