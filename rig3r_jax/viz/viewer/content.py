"""What a viewer shows of a folder: cameras, points, steps and pictures, ready to be drawn."""

import dataclasses
import functools
import typing
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rig3r_jax.exports.choose import choose_points, left_out_words
from rig3r_jax.exports.colors import COLORINGS, confidence_ramp, confidence_ranks, image_colorings
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.exports.read import CLOUD, read_reconstruction
from rig3r_jax.exports.steps import time_steps
from rig3r_jax.exports.thumbnails import Thumbnails, thumbnails_of
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.schema import Reconstruction

_GREY = 160  # of points of a file without colours


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Cloud:
    """Points in an order drawn at random, so that the first of them are a fair choice."""

    points_world: Float[np.ndarray, "n 3"]  # float64, length unit
    colors: UInt8[np.ndarray, "n 3"]
    confidence: Float[np.ndarray, " n"] | None  # None: the file does not say
    image: Int[np.ndarray, " n"] | None  # number of the image; None: the file does not say
    source: str  # the file, and what of it is left out

    def __len__(self) -> int:
        return len(self.points_world)

    @functools.cached_property
    def ranks(self) -> Float[np.ndarray, " n"]:
        """The share of the points that are less sure; 1 where nothing is known."""
        return np.ones(len(self)) if self.confidence is None else confidence_ranks(self.confidence)

    def chosen(self, surest: float, count: int) -> Bool[np.ndarray, " n"]:
        """Of the first `count` points those among the share `surest` of all."""
        least = 1.0 - surest - 1e-9  # a rank that is the share itself is among them, whatever is rounded
        return (self.ranks >= least) & (np.arange(len(self)) < count)


@dataclasses.dataclass(frozen=True)
class Content:
    """A reconstruction with what belongs to it in its folder."""

    reconstruction: Reconstruction
    cloud: Cloud | None  # None: the folder has no points
    thumbnails: Thumbnails
    steps: list[list[int]]  # of images, as `exports.steps.time_steps` has them

    @functools.cached_property
    def tables(self) -> dict[str, UInt8[np.ndarray, "v 3"]]:
        return image_colorings(self.reconstruction)

    @property
    def colorings(self) -> list[str]:
        """Those of `exports.colors.COLORINGS` that the points can have."""
        if self.cloud is None:
            return []
        by_image = self.tables if self.cloud.image is not None else ()
        possible = {"colors", *by_image, *(["confidence"] if self.cloud.confidence is not None else [])}
        return [name for name in COLORINGS if name in possible]

    def colored(self, coloring: str) -> UInt8[np.ndarray, "n 3"]:
        """Colours of all points."""
        if coloring == "colors":
            return self.cloud.colors
        if coloring == "confidence":
            return confidence_ramp()[np.minimum(255, (256 * self.cloud.ranks).astype(int))]
        return self.tables[coloring][self.cloud.image]


def read_content(folder: Path) -> Content:
    """What a folder of `rig3r reconstruct`, of an export or of a run holds.

    ValueError naming the folder or file that cannot be read, and the remedy.
    """
    reconstruction = read_reconstruction(folder)
    cloud = _of_maps(reconstruction) if reconstruction.points is not None else _of_ply(folder / CLOUD)
    thumbnails = thumbnails_of(reconstruction, folder)
    return Content(reconstruction, cloud, thumbnails, time_steps(reconstruction))


def _of_maps(reconstruction: Reconstruction) -> Cloud | None:
    chosen = choose_points(reconstruction, ExportOptions(confident=1.0))
    if not len(chosen):
        return None
    order = np.random.default_rng(0).permutation(len(chosen))
    left_out = left_out_words(chosen.left_out)
    return Cloud(
        chosen.points_world[order],
        chosen.colors[order],
        chosen.confidence[order],
        chosen.image[order],
        "reconstruction.npz" + (f" (left out: {left_out})" if left_out else ""),
    )


def _of_ply(path: Path) -> Cloud | None:
    if not path.exists():
        return None
    file = read_ply(path)
    usable = np.isfinite(file.points_world).all(axis=-1)
    if file.confidence is not None:
        usable &= np.isfinite(file.confidence)
    order = np.random.default_rng(0).permutation(np.flatnonzero(usable))
    if not len(order):
        return None
    colors = np.full((len(usable), 3), _GREY, np.uint8) if file.colors is None else file.colors
    confidence = None if file.confidence is None else file.confidence[order]
    removed = len(usable) - len(order)
    source = path.name + (f" ({removed:,} that are not finite left out)" if removed else "")
    return Cloud(file.points_world[order].astype(np.float64), colors[order], confidence, None, source)
