"""Cameras from ray maps in plain PyTorch: what `geometry.recover` does for a known principal point at the centre."""

import torch
from jaxtyping import Float
from torch import Tensor


def recover_camera(
    directions: Float[Tensor, "*b rows columns 3"], center: Float[Tensor, "*b 3"], height: int, width: int
) -> tuple[Float[Tensor, "*b 2"], Float[Tensor, "*b 4 4"]]:
    """Focal lengths in pixels and a_from_camera.

    For a cell and its reflection about the centre, theta between their rays: tan^2(theta/2) = du^2/fx^2 + dv^2/fy^2, by
    least squares in (1/fx^2, 1/fy^2); then Kabsch's rotation between the rays of those focal lengths and the given.
    """
    directions = torch.nn.functional.normalize(directions, dim=-1)
    rows, columns = directions.shape[-3:-1]
    dtype, device = directions.dtype, directions.device
    y, x = ((torch.arange(n, dtype=dtype, device=device) + 0.5) * 2 / n - 1 for n in (rows, columns))
    y, x = torch.meshgrid(y, x, indexing="ij")  # half image sizes from the centre
    reflected = directions.flip(-3, -2)
    apart, together = ((directions + sign * reflected).square().sum(-1) for sign in (-1, 1))
    squares = x**2 + y**2
    present = directions.any(-1)  # a zero direction counts for nothing
    weights = torch.where(squares > 0, 1 / torch.where(squares > 0, squares, 1), 0) * (present & present.flip(-2, -1))
    along = together[..., None] * torch.stack([x, y], dim=-1) ** 2
    normal = torch.einsum("...rci,...rcj,...rc->...ij", along, along, weights)
    right = torch.einsum("...rci,...rc,...rc->...i", along, apart, weights)
    usable = torch.linalg.det(normal)[..., None] > 0  # else rays tell no two focal lengths: 1, as in `geometry.recover`
    inverse_squares = torch.where(usable, torch.linalg.solve_ex(normal, right).result, 1.0).clamp(min=1e-6)
    focal = torch.tensor([width / 2, height / 2], dtype=dtype, device=device) / inverse_squares.sqrt()

    half = torch.stack([x * width / 2, y * height / 2], dim=-1)
    planar = half / focal[..., None, None, :]
    rays = torch.nn.functional.normalize(torch.cat([planar, torch.ones_like(planar[..., :1])], dim=-1), dim=-1)
    u, _, vt = torch.linalg.svd(torch.einsum("...rci,...rcj->...ij", directions, rays))
    sign = torch.linalg.det(u @ vt).sign()
    last = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    a_from_camera = torch.zeros(*center.shape[:-1], 4, 4, dtype=dtype, device=device)
    a_from_camera[..., :3, :3] = (u * last[..., None, :]) @ vt
    a_from_camera[..., :3, 3] = center
    a_from_camera[..., 3, 3] = 1
    return focal, a_from_camera
