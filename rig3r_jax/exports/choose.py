"""Which points of a reconstruction's maps go into files of points, and how many each rule leaves out."""

import dataclasses
import typing
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.schema import PointMaps, Reconstruction

_WORDS = {  # of the rules, with the option that loosens each
    "no point": "with no depth before their camera",
    "sky": "of the sky (sky)",
    "edges": "at jumps of depth (edges)",
    "confidence": "of the least confidence (confident)",
    "voxel": "beside a surer one (voxel)",
    "budget": "beyond the budget (budget)",
}


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class ChosenPoints:
    """Points in the order of the images, each with the pixel that it comes from."""

    points_world: Float[np.ndarray, "n 3"]  # float64, length unit
    colors: UInt8[np.ndarray, "n 3"]  # RGB
    confidence: Float[np.ndarray, " n"]  # at least 1
    image: Int[np.ndarray, " n"]  # number of the image
    pixels: Float[np.ndarray, "n 2"]  # (u, v) in that image's original, centres at +0.5
    left_out: dict[str, int]  # by rule, how many points of the maps it leaves out
    error: Float[np.ndarray, " n"] | None = None  # length unit: expected distance from the truth; None: not known

    def __len__(self) -> int:
        return len(self.image)

    def draw(self, budget: int | None, seed: int) -> "ChosenPoints":
        """At most `budget` of them, drawn at random, in the same order; equal seeds draw equal points."""
        if budget is None or len(self) <= budget:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), budget, replace=False))
        return dataclasses.replace(self.take(rows), left_out=self.left_out | {"budget": len(self) - budget})

    def thin(self, edge: float | None) -> "ChosenPoints":
        """Of the points in each cube of this edge the most confident one, the first of equal ones."""
        if edge is None:
            return self
        order = np.argsort(-self.confidence, kind="stable")
        _, first = np.unique(np.floor(self.points_world[order] / edge), axis=0, return_index=True)
        rows = np.sort(order[first])
        return dataclasses.replace(self.take(rows), left_out=self.left_out | {"voxel": len(self) - len(rows)})

    def counted(self) -> str:
        """How many there are, in words, and how many a budget left out."""
        beyond = self.left_out.get("budget", 0)
        return f"{len(self):,} points" + (f", {beyond:,} more are beyond the budget" if beyond else "")

    def take(self, rows: Int[np.ndarray, " m"]) -> "ChosenPoints":
        """Those at these rows."""
        names = ("points_world", "colors", "confidence", "image", "pixels")
        error = None if self.error is None else self.error[rows]
        return dataclasses.replace(self, error=error, **{name: getattr(self, name)[rows] for name in names})


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many points each rule left out, for people; "" for none."""
    return ", ".join(f"{count:,} {_WORDS[rule]}" for rule, count in left_out.items())


def choose_points(reconstruction: Reconstruction, options: ExportOptions) -> ChosenPoints | None:
    """The points that the options leave; None where the reconstruction has cameras alone.

    ValueError for a mask of sky of an unknown image, or of another size than its original.
    """
    points = reconstruction.points
    if points is None:
        return None
    keep = _usable(points)
    left_out = {"no point": int(points.on_image.sum() - keep.sum())} if (points.on_image & ~keep).any() else {}
    rules = {
        "sky": lambda kept: kept & ~_sky(reconstruction, options),
        "edges": lambda kept: kept & ~depth_edges(points, kept, options.edges),
        "confidence": lambda kept: kept & _confident(points, kept, options.confident),
    }
    for name, rule in rules.items():
        before, keep = keep, rule(keep)
        if removed := int(before.sum() - keep.sum()):
            left_out[name] = removed
    chosen = ChosenPoints(
        points_world=points.points_world[keep].astype(np.float64),
        colors=points.colors[keep],
        confidence=points.confidence[keep],
        image=np.nonzero(keep)[0],
        pixels=points.pixels[keep].astype(np.float64),
        left_out=left_out,
        error=None if points.error is None else points.error[keep],
    )
    return chosen.thin(options.voxel)


def _usable(points: PointMaps) -> Bool[np.ndarray, "v hp wp"]:
    """On the image, finite and before its camera."""
    finite = np.isfinite(points.points_world).all(axis=-1) & np.isfinite(points.depth) & np.isfinite(points.confidence)
    return points.on_image & finite & (points.depth > 0)


def _confident(points: PointMaps, kept: Bool[np.ndarray, "v hp wp"], share: float) -> Bool[np.ndarray, "v hp wp"]:
    """The most confident of the points that are kept, as large a share of them."""
    if not kept.any():
        return kept
    return points.confidence >= np.quantile(points.confidence[kept], 1.0 - share)


def depth_edges(
    points: PointMaps, kept: Bool[np.ndarray, "v hp wp"], tolerance: float | None
) -> Bool[np.ndarray, "v hp wp"]:
    """Where the inverse depth is off the mean of that on both sides, in a row or a column, by more than a share of it.

    The inverse depth of a plane is affine in the pixels of a pinhole, so that no slant is an edge; both sides of a jump
    are. Points beside one that is not `kept` are judged along the other axis alone.
    """
    edges = np.zeros(kept.shape, bool)
    if tolerance is None:
        return edges
    inverse = np.where(kept, 1.0 / np.where(kept, points.depth, 1.0), np.nan)
    for values, marks in ((inverse, edges), (inverse.swapaxes(1, 2), edges.swapaxes(1, 2))):
        middle = values[:, :, 1:-1]
        off = np.abs(middle - (values[:, :, :-2] + values[:, :, 2:]) / 2)
        marks[:, :, 1:-1] |= off > tolerance * middle  # NaN compares false
    return edges


def _sky(reconstruction: Reconstruction, options: ExportOptions) -> Bool[np.ndarray, "v hp wp"]:
    """The points whose pixels are marked in their image's mask."""
    points = reconstruction.points
    numbers = {image.name: number for number, image in enumerate(reconstruction.images)}
    sky = np.zeros(points.on_image.shape, bool)
    for name, mask in options.sky.items():
        if name not in numbers:
            raise ValueError(f"sky: {name!r} is no image of the reconstruction; name one of {len(numbers)} images")
        image = reconstruction.images[numbers[name]]
        if mask.shape != (image.height, image.width):
            size = f"{image.height} rows of {image.width} pixels"
            raise ValueError(f"sky: the mask of {name} has shape {mask.shape}, must have the original's {size}")
        columns, rows = np.moveaxis(np.floor(points.pixels[numbers[name]]).astype(np.int64), -1, 0)
        rows, columns = np.clip(rows, 0, image.height - 1), np.clip(columns, 0, image.width - 1)
        sky[numbers[name]] = mask[rows, columns]
    return sky
