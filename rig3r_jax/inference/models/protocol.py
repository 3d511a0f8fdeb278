"""The face of a model that reconstructs, whatever its family."""

import typing
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.schema import Estimate, Views

Describe = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]


@typing.runtime_checkable
class Model(typing.Protocol):
    """Takes the images of one pass and says cameras and points of them."""

    name: str  # for people: family, weights, step
    licence: str | None  # terms of weights that are not this project's; None: of a run of one's own
    notes: tuple[str, ...]  # what people should know of what it says, a sentence each
    usual_views: int  # images of a pass that it was trained on
    most_views: int | None  # that a pass can have at all; None: as many as fit the memory
    takes_rig: bool  # whether metadata of the rig change what it says
    fill: int  # grey level of pixels beside an image and of masked ones, which it takes for nothing

    @property
    def digest(self) -> str:
        """Of weights and whatever else its estimates depend on beside what it is given: equal for equal estimates."""
        ...

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Height and width that it sees all images of a pass at, given those of the upright originals."""
        ...

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """Memory that a pass of so many images of this height and width takes, parameters included.

        Of the compiled program, which is kept for the pass: the first call for a number of images takes its time.
        """
        ...

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """Of one sample without a batch axis, numpy.

        `lenses` are those of the images as seen, where they are known: the estimate has them as they are. `wide` are
        images of unknown lenses that are fisheyes.
        """
        ...

    @property
    def describe(self) -> Describe | None:
        """Images of its input size to unit vectors, near for images of one place: by its image encoder. None: it has
        none that can be run by itself."""
        ...
