"""Which checkpoints stay, and how the others go: renamed first, so that a kill in the middle leaves no half of one."""

import dataclasses
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.checkpoint_sums import Damaged, read_sums

logger = logging.getLogger(__name__)

_LEFTOVER = r"\d+\.(saving|deleting|orbax-checkpoint-tmp.*)"  # the last of older versions


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the newest `last` (at least 1), and those whose step is a multiple of `every` (0: none).

    `copies`: a second place, a folder or what epath takes, where those that stay are kept too; "" for none.
    """

    last: int
    every: int = 0
    copies: str = ""

    def surplus(self, steps: Sequence[int]) -> list[int]:
        """The steps, of those given in ascending order, that go."""
        return [step for step in steps[: -self.last] if not self.every or step % self.every]


def prune(folder: Path, keep: Keep) -> list[int]:
    """Deletes the steps that `keep` does not want; returns them.

    A step that lacks files neither counts as one that is kept nor goes: the newest whole one always stays.
    """
    surplus = keep.surplus([step for step in saved_steps(folder) if _has_its_files(folder / str(step))])
    for step in surplus:
        doomed = folder / f"{step}.deleting"
        shutil.rmtree(doomed, ignore_errors=True)
        (folder / str(step)).rename(doomed)
        shutil.rmtree(doomed)
    return surplus


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run has left of saves and deletions."""
    for path in folder.iterdir():
        if re.fullmatch(_LEFTOVER, path.name):
            logger.warning("%s: left by a run that was killed; removed", path)
            shutil.rmtree(path)


def _has_its_files(step: Path) -> bool:
    try:
        sums_by_name = read_sums(step)
    except Damaged:
        return False
    return sums_by_name is None or all((step / name).is_file() for name in sums_by_name)
