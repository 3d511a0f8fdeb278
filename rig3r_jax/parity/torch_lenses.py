"""Rays of lenses in plain PyTorch, from the papers' formulas: inverses by bisection and by Newton's method, float64.

Pinhole; Brown-Conrady (k1, k2, p1, p2, k3); Kannala-Brandt, IEEE PAMI 28(8), 2006 (k1..k4); Mei and Rives, ICRA 2007
(xi, k1, k2, p1, p2). Nothing here is differentiated: cameras are data.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rig3r_jax.schema import Distortion

_HALVINGS, _STEPS = 60, 12


def lens_rays(
    intrinsics: Float[Tensor, "b v 3 3"], distortion: Distortion | None, pixels: Float[Tensor, "r c 2"]
) -> Float[Tensor, "b v r c 3"]:
    """Unit directions_camera of pixels (u, v) that all images share."""
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    plane = torch.einsum("bvij,rcj->bvrci", torch.linalg.inv_ex(intrinsics).inverse, homogeneous)
    if distortion is None:
        return _unit(plane)
    exact, rays = plane.double(), torch.empty_like(plane)
    for sample, view in torch.cartesian_prod(*map(torch.arange, plane.shape[:2])).tolist():
        ray = _RAYS[int(distortion.kind[sample, view])]
        turned = ray(exact[sample, view, ..., :2], *distortion.coefficients[sample, view].double().tolist())
        rays[sample, view] = turned.to(plane.dtype)
    return rays


def along_axis(
    distance: Float[Tensor, "b v h w"], rays: Float[Tensor, "b v h w 3"], distortion: Distortion | None
) -> Float[Tensor, "b v h w"]:
    """Depth along the camera's axis; of fisheyes and unified lenses, which see 180 degrees, the distance itself."""
    depth = distance * rays[..., 2]
    return depth if distortion is None else torch.where(distortion.kind[..., None, None] >= 2, distance, depth)


def _pinhole(xy: Float[Tensor, "r c 2"], *_: float) -> Float[Tensor, "r c 3"]:
    return _unit(_at_depth_1(xy))


def _brown(xy: Float[Tensor, "r c 2"], k1: float, k2: float, p1: float, p2: float, k3: float) -> Tensor:
    return _unit(_at_depth_1(_straightened(xy, k1, k2, p1, p2, k3)))


def _fisheye(xy: Float[Tensor, "r c 2"], k1: float, k2: float, k3: float, k4: float, _: float) -> Tensor:
    """The angle by bisection between 0 and the first angle at which the radius stops to grow."""
    powers = xy.new_tensor([3.0, 5.0, 7.0, 9.0])
    bends = xy.new_tensor([k1, k2, k3, k4])
    grid = torch.linspace(0, math.pi, 10_001, dtype=xy.dtype, device=xy.device)
    falls = (1 + (grid[:, None] ** (powers - 1) * powers * bends).sum(dim=-1)) <= 0
    last = grid[falls.int().argmax()] if falls.any() else grid[-1]
    radius = xy.norm(dim=-1)
    low, high = torch.zeros_like(radius), torch.ones_like(radius) * last
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = middle + (middle[..., None] ** powers * bends).sum(dim=-1) > radius
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    across = torch.where(radius > 0, torch.sin(low) / radius.clamp(min=1e-300), 1.0)
    return torch.cat([across[..., None] * xy, torch.cos(low)[..., None]], dim=-1)


def _unified(xy: Float[Tensor, "r c 2"], xi: float, k1: float, k2: float, p1: float, p2: float) -> Tensor:
    """Mei's lifting: the point of the unit sphere that (x, y, 1) is seen at from xi behind the sphere's centre."""
    xy = _straightened(xy, k1, k2, p1, p2, 0.0)
    squared = (xy * xy).sum(dim=-1, keepdim=True)
    factor = (xi + torch.sqrt(1 + (1 - xi * xi) * squared)) / (squared + 1)
    return torch.cat([factor * xy, factor - xi], dim=-1)


_RAYS = (_pinhole, _brown, _fisheye, _unified)  # by the number of the kind


def _straightened(xy: Float[Tensor, "r c 2"], k1: float, k2: float, p1: float, p2: float, k3: float) -> Tensor:
    """Where light would have met the plane without distortion, by Newton's method with derivatives of autograd."""

    def bent(x, y):
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y

    solution = xy.clone()
    for _ in range(_STEPS):
        with torch.enable_grad():
            x, y = (solution[..., i].detach().requires_grad_() for i in range(2))
            u, v = bent(x, y)
            (ux, uy), (vx, vy) = (torch.autograd.grad(w.sum(), (x, y), retain_graph=True) for w in (u, v))
        du, dv = xy[..., 0] - u.detach(), xy[..., 1] - v.detach()
        step = torch.stack([vy * du - uy * dv, ux * dv - vx * du], dim=-1) / (ux * vy - uy * vx)[..., None]
        solution = solution + step
    return solution


def _at_depth_1(xy: Float[Tensor, "r c 2"]) -> Float[Tensor, "r c 3"]:
    return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)


def _unit(vectors: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    return vectors / vectors.norm(dim=-1, keepdim=True)
