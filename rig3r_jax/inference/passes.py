"""Passes of a model over groups of images, one after the other: what fits its memory at once."""

import dataclasses
import typing
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.pass_store import PassStore, pass_key
from rig3r_jax.inference.progress import PassProgress
from rig3r_jax.inference.shots import Shot, views_of
from rig3r_jax.inference.thinning import distances_of, thinned, thinning
from rig3r_jax.schema import Estimate, Views

POINTS_IN_MEMORY = 20_000_000  # of all images: 1.4 GB of a reconstruction, for a while twice that


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Pass:
    """What a model said of a group of images. Their points are where `load` finds them: in memory, or in a file."""

    rows: Int[np.ndarray, " k"]  # numbers of the images, ascending
    world_from_camera: Float[np.ndarray, "k 4 4"]  # as all lengths in the pass's own world and unit
    lenses: tuple[Lens, ...]  # of the images as seen
    confidence: Float[np.ndarray, " k"]  # mean of each image's points
    distances: Float[np.ndarray, "k m"]  # from the camera, of some points of each image, in all passes the same ones
    covariance: Float[np.ndarray, "k 6 6"] | None
    rig_from_camera: Float[np.ndarray, "k 4 4"] | None
    load: Callable[[], Estimate]

    @classmethod
    def of(cls, rows: Int[np.ndarray, " k"], estimate: Estimate, load: Callable[[], Estimate] | None = None) -> "Pass":
        """Of an estimate; without `load` it is kept whole."""
        return cls(
            rows=rows,
            world_from_camera=estimate.world_from_camera,
            lenses=estimate.lenses,
            confidence=estimate.confidence.reshape(len(rows), -1).mean(axis=1),
            distances=distances_of(estimate),
            covariance=estimate.covariance,
            rig_from_camera=estimate.rig_from_camera,
            load=load or (lambda: estimate),
        )

    @property
    def joining_covariance(self) -> Float[np.ndarray, "k 6 6"] | None:
        """Of poses, for joining passes: zeros, of images that define the pass's world, are a hundredth of the others'
        mean (a tenth of their standard deviations). Held to much less they change no error of the outcome, but the
        solver creeps along them: 100 steps do not end where 10 do (`rig3r bench drift`)."""
        if self.covariance is None:
            return None
        exact = ~self.covariance.any(axis=(1, 2))
        if exact.all():
            return None
        softened = self.covariance.copy()
        softened[exact] = self.covariance[~exact].mean(axis=0) / 100
        return softened

    @property
    def estimate(self) -> Estimate:
        """All that was said, with the points; read anew each time where they are in a file."""
        return self.load()


def run_passes(
    model: Model,
    shots: Sequence[Shot],
    windows: Sequence[Int[np.ndarray, " k"]],
    store: PassStore,
    wide: bool = False,
    points: int = POINTS_IN_MEMORY,
    progress: PassProgress | None = None,
) -> list[Pass]:
    """A pass over each window. Those that `store` has from before, of the same inputs, are not run again.

    Args:
        store: takes the points, so that what is held in memory is of one pass at a time.
        wide: images of unknown lenses are fisheyes.
        points: of all images at most: of finer grids every second, third ... point of a row and of a column is kept,
            where the model's grid lets the pixels of these be told (see `thinning`).
        progress: is told of every pass.
    """
    passes = []
    for rows in windows:
        inputs = model_inputs(shots, rows, wide)
        key = pass_key(store.model_digest, *inputs, points // len(shots))
        reused = store.read(key)
        estimate = reused
        if estimate is None:
            estimate = model.estimate(*inputs)
            size = inputs[0].image_mask.shape[1:3]
            estimate = thinned(estimate, thinning(estimate.points.shape[1:3], size, points // len(shots)))
            store.write(key, estimate)
        passes.append(Pass.of(rows, estimate, store.loader(key)))
        if progress:
            progress.advance(len(rows), reused=reused is not None)
    return passes


def model_inputs(
    shots: Sequence[Shot], rows: Int[np.ndarray, " k"], wide: bool = False
) -> tuple[Views, list[Lens | None], list[bool]]:
    """Arguments of `Model.estimate` for these images; `wide`: those of unknown lenses are fisheyes."""
    group = [shots[row] for row in rows]
    lenses = [shot.seen_lens for shot in group]
    return views_of(group), lenses, [wide and lens is None for lens in lenses]
