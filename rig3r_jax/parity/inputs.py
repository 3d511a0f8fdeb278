"""What both sides of the twin are given: a random batch and random parameters in which everything matters. No torch."""

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from rig3r_jax.schema import Batch, Distortion, RigMetadata, Targets, Views


def random_batch(seed: int = 0, batch: int = 2, views: int = 3, size: int = 32, lenses: bool = False) -> Batch:
    """A batch in which every field matters, float32 and on the host.

    Padding on one side of a view, depth that is partly NaN, cameras with skew, two focal lengths and a principal point
    off the centre; every metadata field is known for half of the images and NaN, where it can be, for the others. From
    three samples on, the last one has no valid depth and so no z-bar. With `lenses` the images have lenses of all kinds
    in turn, else all are pinholes and the batch holds no `distortion`.
    """
    rng = np.random.default_rng(seed)
    shape = (batch, views)

    def some():  # half true, half false
        return rng.permutation(np.arange(batch * views) % 2 == 0).reshape(shape)

    intrinsics = np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
    intrinsics[..., 0, 0], intrinsics[..., 1, 1] = rng.uniform(0.6, 1.2, (2, *shape)) * size
    intrinsics[..., 0, 1] = rng.uniform(-0.02, 0.02, shape) * size
    intrinsics[..., :2, 2] = rng.uniform(0.4, 0.6, (*shape, 2)) * size
    distortion = _lenses(np.random.default_rng([seed, 1]), intrinsics) if lenses else None
    image_mask = np.ones((*shape, size, size), bool)
    image_mask[:, -1, : size // 4] = False
    image_mask[0, 0, :, size - size // 8 :] = False
    reference_from_camera, rig_from_camera = _transforms(rng, shape), _transforms(rng, shape)
    reference_from_camera[:, 0] = np.eye(4)
    time = rng.normal(size=shape).astype(np.float32)
    time[:, 0] = 0.0
    has_camera_id, has_time, has_rig = some(), some(), some()
    of_rig = has_rig[..., None, None]
    metadata = RigMetadata(
        frame_index=np.stack([np.r_[0, 1 + rng.permutation(max(100, views))[: views - 1]] for _ in range(batch)]),
        camera_id=rng.integers(0, 1000, shape),
        time=np.where(has_time, time, np.float32(np.nan)),
        rig_from_camera=np.where(of_rig, rig_from_camera, np.float32(np.nan)),
        intrinsics=np.where(of_rig, intrinsics, np.float32(np.nan)),
        has_camera_id=has_camera_id,
        has_time=has_time,
        has_rig=has_rig,
        distortion=distortion,
    )
    metadata = metadata.replace(
        frame_index=metadata.frame_index.astype(np.int32), camera_id=metadata.camera_id.astype(np.int32)
    )
    valid = rng.random((*shape, size, size)) < 0.7
    valid[2:][-1:] = False
    depth = np.where(valid, rng.uniform(1, 20, valid.shape), np.nan).astype(np.float32)
    images = rng.integers(0, 256, (*shape, size, size, 3), dtype=np.uint8)
    camera_index = rng.integers(0, 3, shape).astype(np.int32)
    targets = Targets(depth, valid, reference_from_camera, rig_from_camera, intrinsics, camera_index, time, distortion)
    return Batch(Views(images, image_mask, metadata), targets)


_COEFFICIENTS = np.array(  # centres and half ranges by kind: one-to-one over the whole images that `random_batch` makes
    [
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 0], [0.05, 0.01, 2e-3, 2e-3, 2e-3]],
        [[0, 0, 0, 0, 0], [0.01, 1e-3, 1e-4, 1e-5, 0]],
        [[0.8, 0, 0, 0, 0], [0.4, 0.02, 5e-3, 2e-3, 2e-3]],
    ]
)
_FOCAL_FACTORS = np.array([1.0, 1.0, 0.5, 1.3])  # fisheyes see past 90 degrees; a unified lens ends at some radius


def _lenses(rng: np.random.Generator, intrinsics: np.ndarray) -> Distortion:
    """Kinds 0, 1, 2, 3, 0, ... of the images and their coefficients; focal lengths are fitted to the kinds in place."""
    shape = intrinsics.shape[:2]
    kind = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape) % len(_COEFFICIENTS)
    intrinsics[..., :2, :2] *= _FOCAL_FACTORS[kind][..., None, None].astype(np.float32)
    center, spread = np.moveaxis(_COEFFICIENTS[kind], -2, 0)
    return Distortion(kind, (center + spread * rng.uniform(-1, 1, center.shape)).astype(np.float32))


def _transforms(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random rigid transforms, (*shape, 4, 4)."""
    q, r = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    transforms = np.tile(np.eye(4, dtype=np.float32), (*shape, 1, 1))
    transforms[..., :3, :3] = q * np.sign(np.linalg.det(q))[..., None, None]
    transforms[..., :3, 3] = rng.normal(size=(*shape, 3))
    return transforms


def random_parameters(model: nn.Module, views: Views, seed: int = 0) -> PyTree:
    """Parameters as the model initialises them, float32 and on the host; those that begin as a constant are redrawn.

    Biases, norms and null vectors are random too, so that none of them can be forgotten unnoticed. The last layer of a
    DPT head is made smaller: expm1 of its raw numbers, of about 10, would drown all other errors.
    """
    initial = jax.jit(model.init)(jax.random.key(seed), jax.tree.map(lambda leaf: leaf[:1], views))["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf) -> np.ndarray:
        name = path[-1].key
        if name == "kernel":
            return np.asarray(leaf) * np.float32(0.1 if path[-2].key == "head3" else 1.0)
        center, spread = (1.0, 0.2) if name == "scale" else (0.0, 0.5 if name.endswith("_null") else 0.1)
        return rng.normal(center, spread, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, initial)
