"""A reconstruction in another world and unit: where another one, or known cameras, have it."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.schema import PointMaps, Reconstruction, Scale


@dataclasses.dataclass(frozen=True)
class CameraAlignment:
    """What brings cameras nearest to others: p_target = scale * target_from_source p_source."""

    scale: float
    target_from_source: Float[np.ndarray, "4 4"]

    def poses(self, source_from_camera: Float[np.ndarray, "*v 4 4"]) -> Float[np.ndarray, "*v 4 4"]:
        """target_from_camera of source_from_camera."""
        return self.target_from_source @ stretched(source_from_camera, self.scale)


def camera_alignment(
    source_from_camera: Float[np.ndarray, "v 4 4"], target_from_camera: Float[np.ndarray, "v 4 4"], with_scale: bool
) -> CameraAlignment:
    """The alignment of the same cameras in two worlds, in closed form; float64.

    The rotation is the chordal mean of what each camera says (Hartley et al. 2013, "Rotation Averaging"), so that
    cameras along a straight line determine it too, which their centres alone would not (Umeyama). With it scale and
    translation are the least squares of the centres. The scale is 1 where the centres coincide, as of one camera.
    """
    rotations = target_from_camera[:, :3, :3] @ np.swapaxes(source_from_camera[:, :3, :3], 1, 2)
    rotation = rigid.nearest_rotation(rotations.sum(axis=0))
    centers_source = source_from_camera[:, :3, 3] @ rotation.T
    centers_target = target_from_camera[:, :3, 3]
    around_source, around_target = (c - c.mean(axis=0) for c in (centers_source, centers_target))
    square, product = (around_source**2).sum(), (around_source * around_target).sum()
    scale = float(product / square) if with_scale and square > 0 and product > 0 else 1.0
    translation = centers_target.mean(axis=0) - scale * centers_source.mean(axis=0)
    return CameraAlignment(scale, rigid.from_rotation_translation(rotation, translation))


def stretched(a_from_b: Float[np.ndarray, "*v 4 4"], scale: float) -> Float[np.ndarray, "*v 4 4"]:
    """With translations times the scale."""
    result = np.array(a_from_b, np.float64)
    result[..., :3, 3] *= scale
    return result


def aligned(
    reconstruction: Reconstruction, target_from_camera: Mapping[str, Float[np.ndarray, "4 4"]], metric: bool
) -> Reconstruction:
    """The reconstruction in the world of known cameras, by those of its images that are among them.

    Args:
        reconstruction: to move: cameras, points, covariances.
        target_from_camera: known poses by the images' names.
        metric: whether their lengths are metres. Lengths of a reconstruction that is metric itself stay what they are,
            where they are; else they are scaled.

    ValueError where no image is among the known ones.
    """
    rows = [row for row, image in enumerate(reconstruction.images) if image.name in target_from_camera]
    if not rows:
        ours, theirs = reconstruction.images[0].name, next(iter(target_from_camera), "none")
        raise ValueError(f"no image is of a name of the reference: images are named as {ours}, its {theirs}")
    target = np.stack([target_from_camera[reconstruction.images[row].name] for row in rows]).astype(np.float64)
    with_scale = not (metric and reconstruction.length_unit == "metre")
    alignment = camera_alignment(reconstruction.world_from_camera[rows], target, with_scale)
    return moved(reconstruction, alignment, metric, "world of the reference that it was aligned to, OpenCV axes")


def moved(reconstruction: Reconstruction, alignment: CameraAlignment, metric: bool, frame: str) -> Reconstruction:
    """The reconstruction after p = scale * target_from_source p, which is in metres or not; `frame` says its world."""
    factor = alignment.scale
    poses = alignment.poses(reconstruction.world_from_camera)
    lengths = np.array([factor, factor, factor, 1.0, 1.0, 1.0])
    images = tuple(
        dataclasses.replace(
            image,
            world_from_camera=pose,
            covariance=None if image.covariance is None else image.covariance * np.outer(lengths, lengths),
        )
        for image, pose in zip(reconstruction.images, poses, strict=True)
    )
    cameras = tuple(
        camera
        if camera.rig_from_camera is None
        else dataclasses.replace(camera, rig_from_camera=stretched(camera.rig_from_camera, factor))
        for camera in reconstruction.cameras
    )
    scale = reconstruction.scale
    if scale is not None:
        source = scale.source if scale.source != "none" or not metric else "given poses"
        scale = Scale(scale.factor * factor, source if metric else "none")
    return dataclasses.replace(
        reconstruction,
        images=images,
        cameras=cameras,
        points=reconstruction.points and _moved_points(reconstruction.points, alignment),
        scale=scale,
        length_unit="metre" if metric else "scene",
        frame=frame,
    )


def _moved_points(points: PointMaps, alignment: CameraAlignment) -> PointMaps:
    return dataclasses.replace(
        points,
        points_world=rigid.apply(alignment.target_from_source, alignment.scale * points.points_world),
        depth=points.depth * alignment.scale,
        error=None if points.error is None else points.error * alignment.scale,
    )
