"""Small random batches for tests of models and training."""

import numpy as np

from rig3r_jax.schema import Batch, RigMetadata, Targets, Views


def random_rotations(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniform rotations of the given leading shape."""
    q, r = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q * np.sign(np.linalg.det(q))[..., None, None]


def random_batch(seed: int = 0, batch: int = 2, views: int = 3, size: int = 32) -> Batch:
    """A batch in which every field matters: poses, padding, partial depth and partial metadata."""
    rng = np.random.default_rng(seed)

    def poses():
        a_from_b = np.tile(np.eye(4, dtype=np.float32), (batch, views, 1, 1))
        a_from_b[..., :3, :3] = random_rotations(rng, batch, views)
        a_from_b[..., :3, 3] = rng.normal(size=(batch, views, 3))
        return a_from_b

    focal = rng.uniform(0.6, 1.2, (batch, views)) * size
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (batch, views, 1, 1))
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
    intrinsics[..., :2, 2] = size / 2
    image_mask = np.ones((batch, views, size, size), bool)
    image_mask[:, 1, : size // 4] = False
    reference_from_camera = poses()
    reference_from_camera[:, 0] = np.eye(4)
    rig_from_camera = poses()
    time = np.concatenate([np.zeros((batch, 1)), rng.normal(size=(batch, views - 1))], axis=1).astype(np.float32)
    camera = rng.integers(0, 3, (batch, views), dtype=np.int32)
    metadata = RigMetadata(
        frame_index=np.tile(np.arange(views, dtype=np.int32), (batch, 1)),
        camera_id=camera + 7,
        time=time,
        rig_from_camera=rig_from_camera,
        intrinsics=intrinsics,
        has_camera_id=rng.random((batch, views)) < 0.5,
        has_time=rng.random((batch, views)) < 0.5,
        has_rig=rng.random((batch, views)) < 0.5,
    )
    images = rng.integers(0, 256, (batch, views, size, size, 3), dtype=np.uint8)
    depth = rng.uniform(1, 20, (batch, views, size, size)).astype(np.float32)
    valid = rng.random(depth.shape) < 0.7
    targets = Targets(
        np.where(valid, depth, np.nan), valid, reference_from_camera, rig_from_camera, intrinsics, camera, time
    )
    return Batch(Views(images, image_mask, metadata), targets)
