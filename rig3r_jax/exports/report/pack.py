"""What the page of a reconstruction draws, as JSON: arrays of numbers in base64, points in 16 bits."""

import base64
import typing

import numpy as np
from jaxtyping import Float

from rig3r_jax.exports.choose import ChosenPoints
from rig3r_jax.exports.colors import COLORINGS, confidence_ramp, image_colorings
from rig3r_jax.exports.frusta import frusta_of, picture_corners, shown_length
from rig3r_jax.exports.steps import time_steps
from rig3r_jax.schema import Reconstruction

_LEVELS = 65535  # of a number in 16 bits

Json = dict[str, typing.Any]


def pack_scene(reconstruction: Reconstruction, points: ChosenPoints | None, frustum_length: float | None) -> Json:
    """All that the page's script needs; lengths in the length unit, places relative to `center`.

    Args:
        reconstruction: the cameras.
        points: those to draw, in the order of their images; None: cameras alone.
        frustum_length: of the drawn cameras; None: by the size of the scene.
    """
    poses, center = reconstruction.world_from_camera, scene_center(reconstruction)
    frusta = frusta_of(reconstruction, frustum_length or shown_length(reconstruction))
    edges = [frustum.vertices_world[frustum.segments].reshape(-1, 3) for frustum in frusta]
    corners = [picture_corners(image, frustum) for image, frustum in zip(reconstruction.images, frusta, strict=True)]
    tables = image_colorings(reconstruction)
    has_points = points is not None
    names = [name for name in COLORINGS if name in tables or (has_points and name in ("colors", "confidence"))]
    return {
        "center": center.tolist(),
        "up": up_direction(poses).tolist(),
        "poses": base64_of(poses[:, :3] - _only_translation(center), "<f4"),  # (v, 3, 4) by rows
        "focal": [image.height / image.lens.intrinsics[1, 1] for image in reconstruction.images],
        "edges": base64_of(np.concatenate(edges) - center, "<f4"),  # ends of segments, image by image
        "edgeCounts": [len(ends) for ends in edges],
        "corners": base64_of(np.stack(corners) - center, "<f4"),  # (v, 4, 3)
        "names": [image.name for image in reconstruction.images],
        "times": [image.time for image in reconstruction.images],
        "steps": time_steps(reconstruction),
        "colorings": {name: COLORINGS[name] for name in names},
        "tables": {name: base64_of(table, "u1") for name, table in tables.items()},
        "cameraColors": base64_of(np.stack([frustum.color for frustum in frusta]), "u1"),
        "ramp": base64_of(confidence_ramp(), "u1"),
        "points": pack_points(points, poses[:, :3, 3]) if has_points else None,
    }


def pack_points(points: ChosenPoints, eyes: Float[np.ndarray, "v 3"]) -> Json:
    """Points in 16 bits a number, as seen from their image's camera: the direction on the octahedron, the logarithm of
    the distance, that of 1 + confidence - least.

    So a place is off by less than 2e-4 of its distance from the camera, however far off other points are. Source of the
    octahedron: Cigolle et al. 2014, "A survey of efficient representations for independent unit vectors".
    """
    counts = np.bincount(points.image, minlength=len(eyes))
    offsets = points.points_world - eyes[points.image]
    distances = np.maximum(np.linalg.norm(offsets, axis=-1), np.finfo(np.float32).tiny)
    logarithms = np.log(distances)
    bounds, begin = np.zeros((len(eyes), 2)), 0
    for image, count in enumerate(counts.tolist()):
        if count:
            of_image = logarithms[begin : begin + count]
            bounds[image] = of_image.min(), of_image.max()
        begin += count
    low, high = bounds[points.image].T
    places = np.stack([*_on_octahedron(offsets).T, _in_levels(logarithms, low, high)], axis=-1)
    confidence = points.confidence.astype(np.float64)
    least, most = float(confidence.min()), float(confidence.max())
    return {
        "counts": counts.tolist(),
        "distances": bounds.tolist(),  # of each image: logarithms of the least and the largest
        "places": base64_of(places, "<u2"),
        "colors": base64_of(points.colors, "u1"),
        "confidence": base64_of(_in_levels(np.log1p(confidence - least), 0.0, np.log1p(most - least)), "<u2"),
        "confidenceRange": [least, most],
    }


def _on_octahedron(offsets: Float[np.ndarray, "n 3"]) -> np.ndarray:
    """(n, 2) in levels: directions on the octahedron |x| + |y| + |z| = 1, its lower half folded outwards."""
    sums = np.maximum(np.abs(offsets).sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    x, y, z = (offsets / sums).T
    sign_x, sign_y = np.where(x < 0, -1.0, 1.0), np.where(y < 0, -1.0, 1.0)
    folded = np.stack([(1 - np.abs(y)) * sign_x, (1 - np.abs(x)) * sign_y], axis=-1)
    return _in_levels(np.where(z[:, None] < 0, folded, np.stack([x, y], axis=-1)), -1.0, 1.0)


def _in_levels(values: np.ndarray, low: typing.Any, high: typing.Any) -> np.ndarray:
    span = np.where(high > low, high - low, 1.0)
    return np.rint((values - low) / span * _LEVELS).astype(np.uint16)


def base64_of(values: np.ndarray, kind: str) -> str:
    """The numbers as bytes of a kind of NumPy's, in base64."""
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode("ascii")


def scene_center(reconstruction: Reconstruction) -> Float[np.ndarray, "3"]:
    """The middle of the cameras: places relative to it are small numbers, whatever the world's origin."""
    centers = reconstruction.world_from_camera[:, :3, 3]
    return (centers.min(axis=0) + centers.max(axis=0)) / 2


def up_direction(world_from_camera: Float[np.ndarray, "v 4 4"]) -> Float[np.ndarray, "3"]:
    """Unit vector, the mean of the images' upward directions; of cameras without a common one, that of the first."""
    ups = -world_from_camera[:, :3, 1]
    mean = ups.mean(axis=0)
    return mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 0.1 else ups[0]


def _only_translation(center: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 4"]:
    return np.concatenate([np.zeros((3, 3)), center[:, None]], axis=1)
