"""reconstruction.npz: everything in arrays, no pickles. `numpy.load` opens it; ARRAYS says what each is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.exports.job import Job
from rig3r_jax.geometry.lenses import padded_coefficients
from rig3r_jax.schema import PointMaps, Reconstruction

ARRAYS = {
    "names": "(v,) images' names",
    "sizes": "(v, 2) width, height of the originals in pixels",
    "world_from_camera": "(v, 4, 4) in the length unit, OpenCV's axes",
    "intrinsics": "(v, 3, 3) pixels of the originals, centres at +0.5",
    "lens_kinds": "(v,) pinhole, brown, fisheye or unified",
    "lens_sources": "(v,) given, predicted or fitted; empty where not stated",
    "pose_sources": "(v,) likewise",
    "lens_coefficients": "(v, 5) those of the kind in its order, then zeros",
    "cameras": "(v,) id of the physical camera, -1 where not known",
    "times": "(v,) seconds since the first image, NaN where not known",
    "covariances": "(v, 6, 6) of the tangent (v, w) in world_from_camera exp(v, w), NaN where not known",
    "camera_ids": "(c,) of the table of physical cameras",
    "camera_names": "(c,)",
    "rig_from_camera": "(c, 4, 4) NaN where not known",
    "length_unit": "() metre or scene",
    "scale": "() lengths over those predicted, NaN where not stated",
    "frame": "() the world, in words",
    "pixels": "(v, h, w, 2) of each point in its original image",
    "points_world": "(v, h, w, 3)",
    "depth": "(v, h, w) along the camera's axis; of a wide lens (fisheye, unified) along the ray",
    "confidence": "(v, h, w) at least 1",
    "on_image": "(v, h, w) false on padding and where masked",
    "colors": "(v, h, w, 3) RGB bytes",
    "error": "(v, h, w) expected distance from the truth, where the model has a law of it",
}
POINTS = ("pixels", "points_world", "depth", "confidence", "on_image", "colors")  # where the reconstruction has points


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file: all points, whatever is chosen of them for other files."""
    reconstruction = job.reconstruction
    arrays = _cameras(reconstruction) | ({} if reconstruction.points is None else _points(reconstruction.points))
    np.savez(path, **{name: arrays[name] for name in ARRAYS if name in arrays})
    return []


def _cameras(reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    images, cameras = reconstruction.images, reconstruction.cameras
    covariances = [np.full((6, 6), np.nan) if image.covariance is None else image.covariance for image in images]
    places = [np.full((4, 4), np.nan) if c.rig_from_camera is None else c.rig_from_camera for c in cameras]
    kinds = [image.lens.kind for image in images]
    return {
        "names": np.array([image.name for image in images]),
        "sizes": np.array([(image.width, image.height) for image in images]),
        "world_from_camera": reconstruction.world_from_camera,
        "intrinsics": reconstruction.intrinsics,
        "lens_kinds": np.array(kinds),
        "lens_sources": np.array([image.lens_source or "" for image in images]),
        "pose_sources": np.array([image.pose_source or "" for image in images]),
        "lens_coefficients": np.stack([padded_coefficients(image.lens) for image in images]),
        "cameras": np.array([-1 if image.camera is None else image.camera for image in images]),
        "times": np.array([np.nan if image.time is None else image.time for image in images]),
        "covariances": np.stack(covariances),
        "camera_ids": np.array([camera.id for camera in cameras], np.int64),
        "camera_names": np.array([camera.name for camera in cameras], str),
        "rig_from_camera": np.array(places, np.float64).reshape(-1, 4, 4),
        "length_unit": np.array(reconstruction.length_unit),
        "scale": np.array(np.nan if reconstruction.scale is None else reconstruction.scale.factor),
        "frame": np.array(reconstruction.frame),
    }


def _points(points: PointMaps) -> dict[str, np.ndarray]:
    names = (*POINTS, "error")
    return {name: np.asarray(getattr(points, name)) for name in names if getattr(points, name) is not None}
