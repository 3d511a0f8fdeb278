"""Batches of turning rigs, and the predictions of a network that is right about them."""

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.schema import Batch, Predictions, RigMetadata, Targets, Views

SIZE, GRID, POINTS = 32, 4, 8


def rig_of(rng, cameras):
    rig_from_camera = np.broadcast_to(np.eye(4), (cameras, 4, 4)).copy()
    yaw = np.arange(cameras) * 2 * np.pi / cameras
    rig_from_camera[:, :3, :3] = Rotation.from_euler("y", yaw[:, None]).as_matrix()
    rig_from_camera[1:, :3, 3] = rig_from_camera[1:, :3, 2] * rng.uniform(0.8, 1.5, (cameras - 1, 1))
    return rig_from_camera


def make_batch(rng, samples=2, cameras=3, times=2, turn=0.1, padding=0):
    """A batch of turning rigs with every metadata field; image columns under `padding` are padding."""
    views, shape = cameras * times, (samples, cameras * times)
    order = np.stack([rng.permutation(views) for _ in range(samples)])
    camera_index, step = order % cameras, order // cameras
    rig_from_camera = np.stack([rig_of(rng, cameras)[c] for c in camera_index])
    world_from_rig = np.broadcast_to(np.eye(4), (*shape, 4, 4)).copy()
    world_from_rig[..., :3, :3] = (
        Rotation.from_euler("y", (turn * step).ravel()[:, None]).as_matrix().reshape(*shape, 3, 3)
    )
    world_from_rig[..., 2, 3], world_from_rig[..., 0, 3] = 6.0 * step, 0.3 * step
    world_from_camera = world_from_rig @ rig_from_camera
    intrinsics = np.broadcast_to(np.eye(3), (*shape, 3, 3)).copy()
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = rng.uniform(16, 30, shape)
    intrinsics[..., :2, 2] = SIZE / 2
    mask = np.ones((*shape, SIZE, SIZE), bool)
    mask[..., :padding] = False
    valid = mask & (rng.random(mask.shape) < 0.7)
    depth = np.where(valid, rng.uniform(5, 25, mask.shape), np.nan)
    seconds = (step - step[:, :1]) * 0.8
    metadata = RigMetadata(
        frame_index=np.broadcast_to(np.arange(views), shape),
        camera_id=camera_index + 11,
        time=seconds.astype(np.float32),
        rig_from_camera=rig_from_camera.astype(np.float32),
        intrinsics=intrinsics.astype(np.float32),
        has_camera_id=np.ones(shape, bool),
        has_time=np.ones(shape, bool),
        has_rig=np.ones(shape, bool),
    )
    targets = Targets(
        depth=depth.astype(np.float32),
        valid=valid,
        reference_from_camera=np.linalg.inv(world_from_camera[:, :1]) @ world_from_camera,
        rig_from_camera=rig_from_camera,
        intrinsics=intrinsics,
        camera_index=camera_index,
        time=seconds,
    )
    return Batch(Views(rng.random((*mask.shape, 3)).astype(np.float32), mask, metadata), targets)


def rays(a_from_camera, intrinsics):
    """Directions through the centres of GRID x GRID cells, not normalised (float64, written apart from the package)."""
    centers = (np.arange(GRID) + 0.5) * SIZE / GRID
    u, v = np.meshgrid(centers, centers)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    matrix = a_from_camera[..., :3, :3] @ np.linalg.inv(intrinsics)
    return 1.7 * np.einsum("bvij,hwj->bvhwi", matrix, pixels)


def mean_z(targets, valid):
    """Mean of each sample's valid depths along the cameras' axes; `targets.depth` is along the rays."""
    u, v = np.meshgrid(*2 * [np.arange(SIZE) + 0.5])
    ahead = np.einsum("bvij,hwj->bvhwi", np.linalg.inv(targets.intrinsics), np.stack([u, v, np.ones_like(u)], axis=-1))
    z = targets.depth / np.linalg.norm(ahead, axis=-1)
    return np.array([np.mean(d[m]) for d, m in zip(z, valid, strict=True)])


def exact(targets, image_mask, scale=None):
    """Predictions that are right up to each sample's scale (its mean depth, or `scale`)."""
    valid = targets.valid & image_mask
    scale = mean_z(targets, valid) if scale is None else scale
    units = scale[:, None, None]
    index = np.arange(POINTS) * (SIZE // POINTS) + SIZE // POINTS // 2
    u, v = np.meshgrid(index + 0.5, index + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    depth = np.nan_to_num(targets.depth, nan=99.0)[..., index[:, None], index]
    rays_camera = np.einsum("bvij,hwj->bvhwi", np.linalg.inv(targets.intrinsics), pixels)
    points_camera = depth[..., None] * rays_camera / np.linalg.norm(rays_camera, axis=-1, keepdims=True)
    transform = targets.reference_from_camera
    points = np.einsum("bvij,bvhwj->bvhwi", transform[..., :3, :3], points_camera) + transform[:, :, None, None, :3, 3]
    predictions = Predictions(
        points=points / units[..., None, None],
        confidence=np.ones(points.shape[:-1]),
        pose_directions=rays(transform, targets.intrinsics),
        pose_center=transform[..., :3, 3] / units,
        rig_directions=rays(targets.rig_from_camera, targets.intrinsics),
        rig_center=targets.rig_from_camera[..., :3, 3] / units,
    )
    return jax.tree.map(lambda a: a.astype(np.float32), predictions)


def perfect_fn(batches, scale=None):
    """A predict_fn that knows the answers, by the images."""

    def predict(views):
        batch = next(b for b in batches if np.array_equal(b.views.images, views.images))
        return exact(batch.targets, views.image_mask, scale)

    return predict
