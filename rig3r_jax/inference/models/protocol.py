"""The face of a model that reconstructs, whatever its family."""

import typing
from collections.abc import Sequence

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.schema import Estimate, Views


@typing.runtime_checkable
class Model(typing.Protocol):
    """Takes the images of one pass and says cameras and points of them."""

    name: str  # for people: family, weights, step
    licence: str | None  # terms of weights that are not this project's; None: of a run of one's own
    usual_views: int  # images of a pass that it was trained on
    takes_rig: bool  # whether metadata of the rig change what it says
    fill: int  # grey level of pixels beside an image and of masked ones, which it takes for nothing

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Height and width that it sees all images of a pass at, given those of the upright originals."""
        ...

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """Memory that a pass of so many images of this height and width takes, parameters included."""
        ...

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """Of one sample without a batch axis, numpy.

        `lenses` are those of the images as seen, where they are known: the estimate has them as they are. `wide` are
        images of unknown lenses that are fisheyes.
        """
        ...
