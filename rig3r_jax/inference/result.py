"""What `load(..).reconstruct(..)` returns: a reconstruction that saves, exports and aligns itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax import schema
from rig3r_jax.exports.export import ExportReport, export, export_file
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.aligned import aligned


@dataclasses.dataclass(frozen=True, repr=False)
class Reconstruction(schema.Reconstruction):
    """Cameras and points of a set of images: `schema.Reconstruction`, and what people do with it."""

    notes: tuple[str, ...] = ()  # what to know of it: images left out, views that did not fit, terms of weights

    @classmethod
    def of(cls, reconstruction: schema.Reconstruction, notes: Sequence[str] = ()) -> "Reconstruction":
        """The same with these methods."""
        names = [field.name for field in dataclasses.fields(schema.Reconstruction)]
        return cls(**{name: getattr(reconstruction, name) for name in names}, notes=tuple(notes))

    def __repr__(self) -> str:
        """In a line: what it has, not all of its numbers."""
        points = "" if self.points is None else f", {int(self.points.on_image.sum()):,} points"
        cameras = f", {len(self.cameras)} cameras" if self.cameras else ""
        return f"Reconstruction({len(self.images)} images{cameras}{points}, in units of {self.length_unit})"

    @property
    def covariance(self) -> Float[np.ndarray, "v 6 6"] | None:
        """Of every pose, of the tangent (v, w) in world_from_camera exp(v, w): v in the length unit before w in
        radians, both in the camera's own frame. NaN for images of which it is not known, None where for none."""
        covariances = [image.covariance for image in self.images]
        if all(covariance is None for covariance in covariances):
            return None
        return np.stack([np.full((6, 6), np.nan) if covariance is None else covariance for covariance in covariances])

    def save(
        self, out: str | Path, kinds: Sequence[str] | None = None, options: ExportOptions | None = None
    ) -> ExportReport:
        """Writes files to a folder: by default all kinds that are cheap. See `exports.export`, docs/outputs.md."""
        return export(self, out, kinds, options)

    def export(self, kind: str, path: str | Path, options: ExportOptions | None = None) -> tuple[str, ...]:
        """Writes one kind of file (docs/outputs.md) at the path; returns what to know of it."""
        return export_file(self, kind, path, options)

    def align(
        self,
        reference: "schema.Reconstruction | str | Path | Mapping[str, np.ndarray] | np.ndarray",
        metric: bool | None = None,
    ) -> "Reconstruction":
        """The reconstruction in the world of a reference, fitted over the images of both (`geometry.aligned`).

        Args:
            reference: another reconstruction, a cameras.json, or world_from_camera of images: by their names, or as
                an array (v, 4, 4) in the order of the images, NaN where not known.
            metric: whether the reference's lengths are metres. None: as a reconstruction says of itself, else yes.

        ValueError for a reference without these images or with poses that are none.
        """
        if isinstance(reference, str | Path):
            reference = read_cameras(reference)
        if isinstance(reference, schema.Reconstruction):
            metric = reference.length_unit == "metre" if metric is None else metric
            reference = {image.name: image.world_from_camera for image in reference.images}
        elif not isinstance(reference, Mapping):
            reference = self._by_name(np.asarray(reference, np.float64))
        for name, pose in reference.items():
            rigid.check(np.asarray(pose, np.float64), f"reference pose of {name}")
        return aligned(self, reference, True if metric is None else metric)

    def _by_name(self, poses: np.ndarray) -> dict[str, np.ndarray]:
        if poses.shape != (len(self.images), 4, 4):
            raise ValueError(f"reference of shape {poses.shape} must be ({len(self.images)}, 4, 4), a pose per image")
        finite = np.isfinite(poses).all(axis=(1, 2))
        return {image.name: pose for image, pose, has_pose in zip(self.images, poses, finite, strict=True) if has_pose}
