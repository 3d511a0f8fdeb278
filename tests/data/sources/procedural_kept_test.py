"""Worlds of the first kind stay as they were: protocols, records and results of earlier versions were made of them."""

import hashlib

import cv2
import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.sources.procedural.source import Procedural

# Lens, split, scene: hash of poses and times, to a millionth; mean and deviation of the images, mean of the depths.
# The images come out of XLA, which rounds their last digits as each processor likes.
KEPT = [
    ("pinhole", "train", 3, "2f9d738b6c84be73", 105.635, 47.4525, 6.9346),
    ("pinhole", "unseen_rigs", 1, "75fb9f09af09a03b", 84.0846, 46.0171, 12.1122),
    ("fisheye", "train", 3, "2f9d738b6c84be73", 89.9546, 54.673, 4.6242),
    ("fisheye", "unseen_rigs", 1, "75fb9f09af09a03b", 83.5577, 59.4696, 5.7703),
]


@pytest.mark.parametrize(("lenses", "split", "index", "poses", "mean", "deviation", "depth"), KEPT)
def test_scenes_are_those_of_earlier_versions(lenses, split, index, poses, mean, deviation, depth):
    options = {"steps": 2, "image_size": 16, "min_cameras": 3, "max_cameras": 3, "image_format": "png"}
    scene = Procedural(lenses=lenses, **options).scenes(split)[index][1]()
    digest = hashlib.sha256()
    for frame in scene.frames:
        numbers = np.concatenate([frame.world_from_camera.ravel(), [frame.time]])
        digest.update(np.round(numbers * 1e6).astype(np.int64).tobytes())
    assert digest.hexdigest()[:16] == poses
    images = np.stack([cv2.imdecode(np.frombuffer(frame.image, np.uint8), 1) for frame in scene.frames]).astype(float)
    depths = np.stack([decode_depth(frame.depth).values.astype(float) for frame in scene.frames])
    np.testing.assert_allclose([images.mean(), images.std(), depths.mean()], [mean, deviation, depth], rtol=1e-3)
