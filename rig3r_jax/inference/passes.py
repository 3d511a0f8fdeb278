"""Passes of a model over groups of images: what fits its memory at once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.shots import Shot, views_of
from rig3r_jax.schema import Estimate


@dataclasses.dataclass(frozen=True)
class Pass:
    """What a model said of a group of images."""

    rows: Int[np.ndarray, " k"]  # numbers of the images, ascending
    estimate: Estimate


def run_pass(model: Model, shots: Sequence[Shot], rows: Int[np.ndarray, " k"], wide: bool = False) -> Pass:
    """One pass over the images of these numbers; `wide`: those of unknown lenses are fisheyes."""
    group = [shots[row] for row in rows]
    lenses = [shot.seen_lens for shot in group]
    return Pass(rows, model.estimate(views_of(group), lenses, [wide and lens is None for lens in lenses]))
