"""One scene as a file states it, of the truth or of a system: whatever the format, the same fields."""

import dataclasses
import typing

import numpy as np
from jaxtyping import Bool, Float, Int

from rig3r_jax.geometry.camera import Lens


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class DepthMap:
    """Depths of one image at some of its points, which are given in shares of the image's width and height."""

    uv: Float[np.ndarray, "h w 2"]  # 0..1 from the left and the upper edge; a regular grid
    depth: Float[np.ndarray, "h w"]  # in the scene's length unit
    valid: Bool[np.ndarray, "h w"]
    along_ray: bool = False  # else along the camera's axis
    stretch: Float[np.ndarray, "h w"] | None = None  # length along the ray over that along the axis; of a known lens

    @classmethod
    def of_image(cls, depth: Float[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"] | None = None) -> "DepthMap":
        """Of a map that covers the whole image; depths that are not finite and positive are not valid."""
        height, width = depth.shape
        u, v = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        usable = np.isfinite(depth) & (depth > 0)
        uv = np.stack(np.meshgrid(u, v), axis=-1)
        return cls(uv, depth.astype(np.float64), usable if valid is None else usable & valid)

    @property
    def distances(self) -> "DepthMap | None":
        """The same along the rays; None where it is along the axis and the lens is not known."""
        if self.along_ray:
            return self
        if self.stretch is None:
            return None
        return dataclasses.replace(self, depth=self.depth * self.stretch, along_ray=True)

    def in_one_kind(self, other: "DepthMap") -> "tuple[DepthMap, DepthMap] | None":
        """Both as they are where both are along the axis or along rays, else both along rays; None where the lens that
        this wants is not known."""
        if self.along_ray == other.along_ray:
            return self, other
        one, two = self.distances, other.distances
        return None if one is None or two is None else (one, two)

    def nearest(self, uv: Float[np.ndarray, "n 2"]) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The depth of the grid's nearest point, and whether it is valid and no farther than the next one."""
        height, width = self.depth.shape
        cells = []
        for axis, (count, line) in enumerate([(width, self.uv[0, :, 0]), (height, self.uv[:, 0, 1])]):
            step = (line[-1] - line[0]) / max(count - 1, 1) or 1.0
            cells.append((uv[:, axis] - line[0]) / step)
        columns, rows = (np.rint(cell).astype(np.int64) for cell in cells)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        columns, rows = np.clip(columns, 0, width - 1), np.clip(rows, 0, height - 1)
        return self.depth[rows, columns], self.valid[rows, columns] & inside


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PosedScene:
    """Images in the file's order, with what the file says of them; None where it says nothing."""

    source: str  # the file or folder, for messages
    kind: str  # of the format, in words
    world_from_camera: Float[np.ndarray, "v 4 4"]  # OpenCV's axes; v is 0 of points alone
    names: tuple[str, ...] | None = None
    times: Float[np.ndarray, " v"] | None = None  # seconds
    cameras: tuple[str, ...] | None = None  # which physical camera took each image, by name
    lenses: tuple[Lens, ...] | None = None  # float64
    sizes: Int[np.ndarray, "v 2"] | None = None  # width, height that the lenses are of
    rig_from_camera: Float[np.ndarray, "v 4 4"] | None = None  # of each image's camera
    covariances: Float[np.ndarray, "v 6 6"] | None = None  # of (v, w) in world_from_camera exp(v, w); NaN where unknown
    depths: tuple[DepthMap | None, ...] | None = None
    points_world: Float[np.ndarray, "n 3"] | None = None
    is_metric: bool = True  # false where the file says that its unit is no metre

    def __len__(self) -> int:
        return len(self.world_from_camera)

    @property
    def focals(self) -> Float[np.ndarray, "v 2"] | None:
        """fx, fy in pixels."""
        if self.lenses is None:
            return None
        return np.array([lens.intrinsics[[0, 1], [0, 1]] for lens in self.lenses], np.float64).reshape(-1, 2)

    def take(self, rows: Int[np.ndarray, " m"]) -> "PosedScene":
        """Its images at these rows, in their order; the points stay."""
        arrays = ("world_from_camera", "times", "sizes", "rig_from_camera", "covariances")
        lists = ("names", "cameras", "lenses", "depths")
        taken = {name: getattr(self, name)[rows] for name in arrays if getattr(self, name) is not None}
        listed = {name: getattr(self, name) for name in lists if getattr(self, name) is not None}
        taken |= {name: tuple(values[row] for row in rows) for name, values in listed.items()}
        return dataclasses.replace(self, **taken)
