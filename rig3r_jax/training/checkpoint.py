"""Checkpoints: state and data position saved together, asynchronously, and restored onto any mesh."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from rig3r_jax.training.optimizer import path_string
from rig3r_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one workdir. `save` returns as soon as the arrays are copied off the devices."""

    def __init__(self, workdir: Path, keep: int):
        self.folder = Path(workdir).resolve() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        handlers = {"state": ocp.StandardCheckpointHandler(), "position": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint; None without one."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, position: dict[str, int]) -> None:
        """Saves once per step; a step that is there already is left alone."""
        if step == self.latest_step:
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
        with _errors_of_the_disk(self.folder):
            self._manager.save(step, args=items)

    def restore(self, abstract_state: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, int]]:
        """State and position of the checkpoint of `step` (the newest by default).

        Args:
            abstract_state: ShapeDtypeStructs with the shardings that the state shall have.

        Raises:
            FileNotFoundError: when there is no checkpoint.
            ValueError: when the checkpoint is of another model; names the leaves that differ.
        """
        step = self.latest_step if step is None else step
        if step is None:
            raise FileNotFoundError(_none_in(self.folder))
        _check_shapes(self.folder, step, self._manager.item_metadata(step).state.tree, abstract_state)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state), position=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return restored.state, restored.position

    def wait(self) -> None:
        """Blocks until every save is on disk; raises what a save failed with, OSError where that is the disk's."""
        with _errors_of_the_disk(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


@contextlib.contextmanager
def _errors_of_the_disk(folder: Path) -> Iterator[None]:
    """Raises OSError for the ValueError that tensorstore makes of one."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error


def restore_params(workdir: Path, abstract_params: PyTree) -> tuple[PyTree, int]:
    """Parameters to evaluate (the average where one is kept) and step of the newest checkpoint.

    Nothing else is read: no optimizer moments.

    Args:
        abstract_params: ShapeDtypeStructs, with shardings for arrays that are placed so, without for numpy arrays.

    Raises:
        FileNotFoundError: when there is no checkpoint.
        ValueError: when the checkpoint is of another model; names the arrays that differ.
    """
    folder = Path(workdir).resolve() / "checkpoints"
    steps = ocp.utils.checkpoint_steps(folder) if folder.is_dir() else []
    if not steps:
        raise FileNotFoundError(_none_in(folder))
    step, handler = max(steps), ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(folder / str(step) / "state").tree
    name = "ema" if saved["ema"] else "params"
    abstract = {name: abstract_params}
    _check_shapes(folder, step, {name: saved[name]}, abstract)
    restored = handler.restore(
        folder / str(step) / "state",
        args=ocp.args.PyTreeRestore(abstract, jax.tree.map(_restore_args, abstract), partial_restore=True),
    )
    return restored[name], step


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _check_shapes(folder: Path, step: int, saved: PyTree, expected: PyTree) -> None:
    """ValueError where names or shapes of what is saved are not those expected; its lines name both."""
    in_checkpoint, in_model = (
        {path_string(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (dict(saved), expected)
    )
    differing = [
        f"{name}: {in_checkpoint.get(name, 'absent')} in the checkpoint, {in_model.get(name, 'absent')} in this model"
        for name in sorted(in_checkpoint.keys() | in_model.keys())
        if in_checkpoint.get(name) != in_model.get(name)
    ]
    if differing:
        lines = "\n  ".join(differing[:8] + ([f"... and {len(differing) - 8} more"] if len(differing) > 8 else []))
        raise ValueError(
            f"{folder} holds step {step} of another model; {len(differing)} arrays differ:\n  {lines}\n"
            "give another --workdir, or the config that this workdir was trained with (its config.json)"
        )


def _none_in(folder: Path) -> str:
    return f"{folder} holds no checkpoint; train first: rig3r train --config=... --workdir=..."


@contextlib.contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Holds the lock of a workdir; ValueError when another process trains in it."""
    path = Path(workdir) / "lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {workdir}; stop it or give another --workdir") from None
        yield
