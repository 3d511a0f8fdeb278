"""Checkpoints: state and data position saved together, asynchronously, and restored onto any mesh."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.checkpoint_files import newest_whole, os_error_code, reading, set_aside
from rig3r_jax.training.optimizer import path_string
from rig3r_jax.training.processes import on_first
from rig3r_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one workdir. `save` returns as soon as the arrays are copied off the devices."""

    def __init__(self, workdir: Path, keep: int):
        self.folder = Path(workdir).resolve() / "checkpoints"
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,  # of saves that were killed, or for which the disk had no room
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "position": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        self._saving = False

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
        self._saving = True

    def restore(self, abstract_state: TrainState) -> tuple[TrainState, dict[str, int]]:
        """State and position of the newest checkpoint that is whole; damaged ones after it are named and set aside.

        Args:
            abstract_state: ShapeDtypeStructs with the shardings that the state shall have.

        Raises:
            FileNotFoundError: when there is no checkpoint.
            ValueError: when the checkpoint is of another model, with the leaves that differ; or when none is whole.
        """

        def read(folder: Path) -> tuple[TrainState, dict[str, int]]:
            with reading(folder):
                saved = ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
            _check_shapes(folder, saved, abstract_state)
            with reading(folder):
                position = read_json(folder / "position" / "metadata")
                args = ocp.args.StandardRestore(abstract_state)
                return ocp.StandardCheckpointHandler().restore(folder / "state", args=args), position

        restored, step = newest_whole(self.folder, read)
        if step != self.latest_step:
            on_first(lambda: set_aside(self.folder, newer_than=step))
            self._manager.reload()
        return restored

    def check(self) -> None:
        """Raises what a save failed with, as `wait`, as soon as that is known; waits for nothing."""
        if self._saving and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Blocks until every save is on disk; raises what a save failed with, OSError where that is the disk's."""
        self._saving = False
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
        code = os_error_code(str(error))
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(folder)) from error


def restore_params(workdir: Path, abstract_params: PyTree) -> tuple[PyTree, int]:
    """Parameters to evaluate (the average where one is kept) and step of the newest checkpoint that is whole.

    Nothing else is read: no optimizer moments. Damaged checkpoints after it are named in the log.

    Args:
        abstract_params: ShapeDtypeStructs, with shardings for arrays that are placed so, without for numpy arrays.

    Raises:
        FileNotFoundError: when there is no checkpoint.
        ValueError: when the checkpoint is of another model, with the arrays that differ; or when none is whole.
    """
    handler = ocp.PyTreeCheckpointHandler()

    def read(folder: Path) -> PyTree:
        with reading(folder):
            saved = handler.metadata(folder / "state").tree
            name = "ema" if saved["ema"] else "params"
        abstract = {name: abstract_params}
        _check_shapes(folder, {name: saved[name]}, abstract)
        args = ocp.args.PyTreeRestore(abstract, jax.tree.map(_restore_args, abstract), partial_restore=True)
        with reading(folder):
            return handler.restore(folder / "state", args=args)[name]

    return newest_whole(Path(workdir).resolve() / "checkpoints", read)


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _check_shapes(folder: Path, saved: PyTree, expected: PyTree) -> None:
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
            f"{folder.parent} holds step {folder.name} of another model; {len(differing)} arrays differ:\n  {lines}\n"
            "give another --workdir, or the config that this workdir was trained with (its config.json)"
        )
