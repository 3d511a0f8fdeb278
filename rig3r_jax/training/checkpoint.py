"""The checkpoints of a workdir: state and data position saved together, kept, copied, and restored onto any mesh."""

import functools
import logging
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.checkpoint_copy import copy_step, remove_surplus
from rig3r_jax.training.checkpoint_files import newest_whole, reading, saved_steps, set_aside
from rig3r_jax.training.checkpoint_keep import Keep, prune, remove_leftovers
from rig3r_jax.training.checkpoint_save import Save
from rig3r_jax.training.checkpoint_share import joined, parts
from rig3r_jax.training.checkpoint_sums import Damaged
from rig3r_jax.training.optimizer import path_string
from rig3r_jax.training.os_errors import explain
from rig3r_jax.training.processes import gather, on_first
from rig3r_jax.training.state import TrainState

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir. `save` returns as soon as the arrays are copied off the devices.

    Of many processes all call every method at the same time, and get the same answer.
    """

    def __init__(self, workdir: Path, keep: Keep | int):
        """`keep`: which checkpoints stay; a number is that of the newest."""
        self.folder = Path(workdir).resolve() / "checkpoints"
        self._keep = keep if isinstance(keep, Keep) else Keep(keep)
        self._save: Save | None = None
        self._surplus_copies: set[int] = set()  # steps that are deleted here, and in the second place not yet
        on_first(self._open)
        steps = gather(saved_steps(self.folder))[0]
        self.latest_step = steps[-1] if steps else None
        """Step of the newest checkpoint; None without one."""

    def save(self, step: int, state: TrainState, position: dict[str, int]) -> None:
        """Saves once per step; a step that is there already is left alone. Waits for the save before.

        Raises:
            OSError: what the save before failed with.
        """
        self.wait()
        if step != self.latest_step:
            self._save = Save(self.folder, step, state, position, self.latest_step, self._afterwards)

    def check(self, *, wait: bool = False) -> None:
        """Raises what the save under way failed with, once that is known; OSError where it is the disk's."""
        save, self._save = self._save, None  # one that fails is under way no more
        if save is None:
            return
        if save.ended(wait=wait):
            self.latest_step = save.step
        else:
            self._save = save

    def wait(self) -> None:
        """Blocks until every save is on the disk; raises as `check`."""
        self.check(wait=True)

    def close(self) -> None:
        """Ends a save under way: it becomes a checkpoint where all processes have written theirs."""
        if self._save is not None and (problem := self._save.give_up()):
            logger.error("step %d is not saved: %s", self._save.step, explain(problem))
        self._save = None

    def restore(self, abstract_state: TrainState) -> tuple[TrainState, dict[str, int]]:
        """State and position of the newest checkpoint that is whole; damaged ones after it are named and set aside.

        Args:
            abstract_state: ShapeDtypeStructs with the shardings that the state shall have.

        Raises:
            FileNotFoundError: when there is no checkpoint.
            ValueError: when the checkpoint is of another model, with the leaves that differ; or when none is whole.
        """
        restored, step = newest_whole(self.folder, functools.partial(_read_state, abstract_state))
        if step != self.latest_step:
            on_first(lambda: set_aside(self.folder, newer_than=step))
            self.latest_step = step
        return restored

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)

    def _afterwards(self, step: int) -> None:
        """Deletes and copies after a save. What fails costs no checkpoint: it is logged and tried again at the next."""
        try:
            self._surplus_copies.update(prune(self.folder, self._keep))
        except OSError as error:
            logger.warning("older checkpoints stay: %s", explain(error))
        if not (place := self._keep.copies):
            return
        try:  # a place that is no folder raises errors of libraries
            copy_step(self.folder / str(step), place)
        except Exception as error:
            logger.warning("step %d is saved, but not copied to %s: %s", step, place, explain(error))
        try:  # after a failed copy, too: it may have been for want of room
            remove_surplus(self._surplus_copies, place)
        except Exception as error:
            logger.warning("older copies stay in %s: %s", place, explain(error))


def restore_before(workdir: Path, step: int, abstract_state: TrainState) -> tuple[TrainState, dict[str, int]]:
    """State and position of the newest whole checkpoint before a step; nothing is changed. Else as `restore`."""
    folder = Path(workdir).resolve() / "checkpoints"
    return newest_whole(folder, functools.partial(_read_state, abstract_state), before=step)[0]


def _read_state(abstract_state: TrainState, folder: Path) -> tuple[TrainState, dict[str, int]]:
    """State and position in the folder of a step; Damaged, or ValueError for those of another model."""
    with reading(folder):
        saved = ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
    _check_shapes(folder, saved, abstract_state)
    alone = jax.process_count() == 1
    with reading(folder):
        position = read_json(folder / "position" / "metadata")
        args = ocp.args.StandardRestore(abstract_state if alone else parts(abstract_state, saved))
        state = ocp.StandardCheckpointHandler().restore(folder / "state", args=args)
    state = state if alone else joined(state, abstract_state)
    if int(state.step) != int(folder.name):
        raise Damaged(f"{folder / 'state'}: is of step {int(state.step)}")
    return state, position


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
