"""How far what images show is from what is claimed of them: angles between rays, distances of points."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid


def arc_angles(
    rays_a: Float[np.ndarray, "n 3"], rays_b: Float[np.ndarray, "n 3"], b_from_a: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, " n"]:
    """Degrees of the rays in camera b from where it may see the points on the rays of camera a.

    A point on a ray of a is seen by b on an arc of a great circle, from the direction of a's centre (the point is near)
    to that of the ray itself (it is far). So a point behind a camera counts as wrong, and without motion between the
    cameras the arc is a point.
    """
    far = rays_a @ b_from_a[:3, :3].T
    origin = b_from_a[:3, 3]
    length = np.linalg.norm(origin)
    if length < 1e-9:
        return np.degrees(_between(rays_b, far))
    near = np.broadcast_to(origin / length, far.shape)
    normal = np.cross(near, far)
    size = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal / np.maximum(size, 1e-12)
    height = np.einsum("ni,ni->n", normal, rays_b)
    # The ray's foot on the circle lies on the arc where it is on the inner side of both ends.
    after_near = np.einsum("ni,ni->n", np.cross(normal, near), rays_b) >= 0
    before_far = np.einsum("ni,ni->n", np.cross(far, normal), rays_b) >= 0
    on_arc = after_near & before_far & (size[:, 0] > 1e-9)
    ends = np.minimum(_between(rays_b, far), _between(rays_b, near))
    return np.degrees(np.where(on_arc, np.abs(np.arcsin(np.clip(height, -1, 1))), ends))


def triangulated(
    rays_a: Float[np.ndarray, "n 3"], rays_b: Float[np.ndarray, "n 3"], b_from_a: Float[np.ndarray, "4 4"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(distances along the rays of a, parallax in degrees) by least squares; distances in the unit of the poses."""
    far, origin = rays_a @ b_from_a[:3, :3].T, b_from_a[:3, 3]
    # The point d far + origin, seen along rays_b: its part across the ray is zero.
    across = far - np.einsum("ni,ni->n", far, rays_b)[:, None] * rays_b
    origin_across = origin - (rays_b @ origin)[:, None] * rays_b
    squared = np.einsum("ni,ni->n", across, across)
    distances = -np.einsum("ni,ni->n", across, origin_across) / np.maximum(squared, 1e-18)
    return distances, np.degrees(_between(far, rays_b))


def moved(
    rays_a: Float[np.ndarray, "n 3"], distances: Float[np.ndarray, " n"], b_from_a: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 3"]:
    """Points of camera a in the frame of camera b."""
    return rigid.apply(b_from_a, rays_a * distances[:, None])


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles of unit vectors, radians, exact for small ones."""
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.einsum("ni,ni->n", a, b))
