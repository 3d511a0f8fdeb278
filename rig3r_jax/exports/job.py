"""What the writer of a kind of file is given, and how it says that the kind cannot hold a reconstruction."""

import dataclasses
from pathlib import Path

from rig3r_jax.exports.choose import ChosenPoints
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.schema import Reconstruction


class CannotHold(ValueError):
    """A kind of file has no place for what a reconstruction holds, or it holds nothing that the kind is of."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One export. A writer takes it and the path of what it makes, a file or a folder, and returns its notes: what
    users should know of this file, a line each."""

    reconstruction: Reconstruction
    chosen: ChosenPoints | None  # within no budget yet; None: cameras alone
    options: ExportOptions
    kinds: tuple[str, ...]  # all that are written
    out: Path  # the folder that the file will lie in, which relative image folders are relative to

    @property
    def dense(self) -> ChosenPoints:
        """The points of files of points; CannotHold where there are none."""
        return self._drawn(self.options.budget)

    @property
    def sparse(self) -> ChosenPoints | None:
        """Those of a COLMAP model; None where there are none."""
        return self.chosen and self.chosen.draw(self.options.sparse_budget, self.options.seed)

    def _drawn(self, budget: int | None) -> ChosenPoints:
        if self.chosen is None:
            raise CannotHold("the reconstruction has cameras alone, no points")
        if not len(self.chosen):
            counts = ", ".join(f"{count:,} by {rule}" for rule, count in self.chosen.left_out.items())
            why = (
                f"no point is left: {counts}; loosen the options"
                if counts
                else "no point is on an image that is not masked"
            )
            raise CannotHold(why)
        return self.chosen.draw(budget, self.options.seed)
