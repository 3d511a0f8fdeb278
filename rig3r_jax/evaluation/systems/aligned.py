"""A scene of a system beside the true one: which images are the same, and what brings the one to the other."""

import dataclasses

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems.align import align
from rig3r_jax.evaluation.systems.match import Matched, match
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.geometry.aligned import CameraAlignment


@dataclasses.dataclass(frozen=True)
class AlignedScene:
    """Rows of `ours` and `theirs` are the same images, in the order of the truth."""

    true: PosedScene  # all images that count
    rows: Matched
    ours: PosedScene  # of the common images as the system has them
    theirs: PosedScene  # as the truth has them
    alignment: CameraAlignment | None  # None where too few images are common

    @property
    def poses(self) -> Float[np.ndarray, "v 4 4"]:
        """world_from_camera of all true images in the system's own world; NaN of those that it has no pose of."""
        poses = np.full((len(self.true), 4, 4), np.nan)
        poses[self.rows.true] = self.ours.world_from_camera
        return poses


def aligned_scene(predicted: PosedScene, true: PosedScene, options: SystemOptions) -> AlignedScene:
    """ValueError where images cannot be told (`match`)."""
    rows = match(predicted, true, options.match, options.longest_gap)
    if rows.way == "time" and true.names is None:
        # The poses of a trajectory are no images that the system was shown: those between its own are not missing.
        true = true.take(rows.true)
        rows = dataclasses.replace(rows, true=np.arange(len(true)))
    ours, theirs = predicted.take(rows.predicted), true.take(rows.true)
    alignment = align(ours.world_from_camera, theirs.world_from_camera, options.align, options.seed)
    return AlignedScene(true, rows, ours, theirs, alignment)
