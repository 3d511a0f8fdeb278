"""Small synthetic scenes in memory, for the tests of data/."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.scene import DenseDepth, Frame, RigCamera, Scene, SparseDepth
from rig3r_jax.geometry.camera import Pinhole


def make_scene(
    seed: int = 0,
    steps: int = 4,
    cameras: int = 3,
    size: tuple[int, int] = (64, 64),
    sparse: bool = False,
    front_camera: int = 0,
    encoding: str = ".png",
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Scene:
    """A rig that drives forward from `origin`: random images, random depths of which some are unknown."""
    rng = np.random.default_rng(seed)
    height, width = size
    turns = Rotation.from_euler("y", [[(i - front_camera) * 60] for i in range(cameras)], degrees=True).as_matrix()
    rig = []
    for i in range(cameras):
        intrinsics = np.array([[0.8 * width + i, 0, 0.48 * width], [0, 0.8 * width + i, 0.53 * height], [0, 0, 1]])
        offset = np.zeros(3) if i == front_camera else rng.uniform(-1, 1, 3)
        rig.append(RigCamera(f"camera_{i}", Pinhole(intrinsics), size, rigid(turns[i], offset)))
    frames = []
    for step in range(steps):
        heading = Rotation.from_euler("y", 5 * step, degrees=True).as_matrix()
        world_from_rig = rigid(heading, np.array(origin) + (0.3 * step, 0, 4.0 * step))
        for i, camera in enumerate(rig):
            frames.append(
                Frame(
                    camera=i,
                    time=1e6 + 0.5 * step + 0.01 * i,
                    step=step,
                    world_from_camera=world_from_rig @ camera.rig_from_camera,
                    image=encode(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), encoding),
                    depth=_random_depth(rng, size, sparse),
                )
            )
    return Scene(f"scene_{seed}", tuple(rig), front_camera, tuple(frames))


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """4x4 transform."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def encode(image_rgb: np.ndarray, encoding: str = ".png") -> bytes:
    """Bytes of a PNG or JPEG."""
    return cv2.imencode(encoding, image_rgb[..., ::-1])[1].tobytes()


def _random_depth(rng: np.random.Generator, size: tuple[int, int], sparse: bool) -> bytes:
    if sparse:
        pixels = rng.uniform(0, 1, (200, 2)) * (size[1], size[0])
        return encode_depth(SparseDepth(pixels.astype(np.float32), rng.uniform(1, 50, 200).astype(np.float32)))
    depth = rng.uniform(1, 50, size)
    return encode_depth(DenseDepth(np.where(rng.random(size) < 0.2, 0, depth).astype(np.float16)))
