"""Ground truth and multitask loss in plain PyTorch, from the formulas of the specification."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rig3r_jax.parity.torch_lenses import along_axis, lens_rays
from rig3r_jax.schema import Distortion, Targets


def camera_rays(
    intrinsics: Float[Tensor, "b v 3 3"],
    distortion: Distortion | None,
    size: tuple[int, int],
    cells: tuple[int, int],
) -> Float[Tensor, "b v rows columns 3"]:
    """Unit directions_camera at the centres of rows x columns equal cells of an image of size (height, width)."""
    v, u = (
        (torch.arange(count, dtype=intrinsics.dtype, device=intrinsics.device) + 0.5) * length / count
        for length, count in zip(size, cells, strict=True)
    )
    v, u = torch.meshgrid(v, u, indexing="ij")
    return lens_rays(intrinsics, distortion, torch.stack([u, v], dim=-1))


def raymap(
    a_from_camera: Float[Tensor, "b v 4 4"],
    intrinsics: Float[Tensor, "b v 3 3"],
    size: tuple[int, int],
    cells: tuple[int, int],
    distortion: Distortion | None = None,
) -> tuple[Float[Tensor, "b v rows columns 3"], Float[Tensor, "b v 3"]]:
    """R times the unit rays of the lens, for a pinhole K^-1 (u, v, 1) normalised, and the camera's centre, in frame a.

    Normalised before it is turned: a rotation that was rounded to float32 does not quite keep lengths.
    """
    directions_camera = camera_rays(intrinsics, distortion, size, cells)
    return torch.einsum("bvij,bvrcj->bvrci", a_from_camera[..., :3, :3], directions_camera), a_from_camera[..., :3, 3]


def points_from_depth(
    depth: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    a_from_camera: Float[Tensor, "b v 4 4"],
    distortion: Distortion | None = None,
) -> Float[Tensor, "b v h w 3"]:
    """Centre + depth times the unit ray of every pixel."""
    size = tuple(depth.shape[-2:])
    rays, centers = raymap(a_from_camera, intrinsics, size, size, distortion)
    return centers[..., None, None, :] + depth[..., None] * rays


def ground_truth(
    targets: Targets, image_mask: Bool[Tensor, "b v h w"], points_grid: tuple[int, int], rays_grid: tuple[int, int]
) -> dict[str, Tensor]:
    """What the predictions should be, lengths over z-bar, and the masks that the loss runs over.

    z-bar is the mean over the valid pixels of all views of a sample of z, which is depth times the ray's z, or depth
    itself for lenses of 180 degrees; without any it is 1 and `has_scale` false.
    Points stand at the pixels stride/2, 3 stride/2, ..; a ray counts where the pixel under it is no padding.
    """
    height, width = size = tuple(targets.depth.shape[-2:])
    valid = targets.valid & image_mask
    count = valid.flatten(1).sum(dim=1)
    has_scale = count > 0
    lens = targets.intrinsics, targets.distortion
    z = along_axis(targets.depth, camera_rays(*lens, size, size), lens[1])
    total = torch.where(valid, z, 0).flatten(1).sum(dim=1)
    scale = torch.where(has_scale, total / count.clamp(min=1), 1)
    points = points_from_depth(targets.depth, lens[0], targets.reference_from_camera, lens[1])
    down, across = height // points_grid[0], width // points_grid[1]
    grid = (slice(None), slice(None), slice(down // 2, None, down), slice(across // 2, None, across))
    under = [[int((i + 0.5) * length / n) for i in range(n)] for length, n in zip(size, rays_grid, strict=True)]
    pose_directions, pose_center = raymap(targets.reference_from_camera, lens[0], size, rays_grid, lens[1])
    rig_directions, rig_center = raymap(targets.rig_from_camera, lens[0], size, rays_grid, lens[1])
    return {
        "points": points[grid] / scale[:, None, None, None, None],
        "points_valid": valid[grid],
        "pose_directions": pose_directions,
        "pose_center": pose_center / scale[:, None, None],
        "rig_directions": rig_directions,
        "rig_center": rig_center / scale[:, None, None],
        "ray_mask": image_mask[:, :, under[0]][:, :, :, under[1]],
        "scale": scale,
        "has_scale": has_scale,
    }


def angles_deg(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    """Angles between vectors of any length, degrees."""
    across = torch.linalg.cross(a, b).norm(dim=-1)
    return torch.atan2(across, (a * b).sum(dim=-1)) * (180 / math.pi)


def multitask_loss(
    predictions: dict[str, Tensor],
    truth: dict[str, Tensor],
    *,
    alpha: float,
    beta: float,
    lambda_pose: float,
    lambda_rig: float,
    reduction: str,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """L_pmap + lambda_p L_p_rmap + lambda_r L_r_rmap, and every term and error under the name of its metric.

    L_pmap = sum of C |X - Xbar/zbar| - alpha log C over valid pixels, L_rmap = sum of |r - rbar| over rays plus beta
    times the sum of |c - cbar/zbar| over views. `mean` divides each of the sums by the number of its terms.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"loss.reduction is {reduction!r}; it must be mean or sum")
    reduced = torch.mean if reduction == "mean" else torch.sum

    def over(values: Tensor) -> Tensor:
        return reduced(values) if values.numel() else values.sum()  # 0 over nothing

    valid, seen, scaled = truth["points_valid"], truth["ray_mask"], truth["has_scale"]
    distance = (predictions["points"][valid] - truth["points"][valid]).norm(dim=-1)
    confidence = predictions["confidence"][valid]
    terms = {"loss/pointmap": over(confidence * distance - alpha * torch.log(confidence))}
    metres = truth["scale"][:, None, None, None].expand(valid.shape)[valid]
    terms |= {
        "error/points": distance.mean(),
        "error/points_m": (distance * metres).mean(),
        "confidence/mean": confidence.mean(),
    }
    for name in ("pose", "rig"):
        rays, true_rays = predictions[f"{name}_directions"][seen], truth[f"{name}_directions"][seen]
        centers, true_centers = predictions[f"{name}_center"][scaled], truth[f"{name}_center"][scaled]
        ray_errors, center_errors = (rays - true_rays).norm(dim=-1), (centers - true_centers).norm(dim=-1)
        terms |= {
            f"loss/{name}_raymap": over(ray_errors) + beta * over(center_errors),
            f"error/{name}_rays": ray_errors.mean(),
            f"error/{name}_rays_deg": angles_deg(rays, true_rays).mean(),
            f"error/{name}_center": center_errors.mean(),
            f"error/{name}_center_m": (center_errors * truth["scale"][scaled][:, None]).mean(),
        }
    total = terms["loss/pointmap"] + lambda_pose * terms["loss/pose_raymap"] + lambda_rig * terms["loss/rig_raymap"]
    return total, terms | {"loss/total": total}
