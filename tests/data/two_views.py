"""How well matched features of two images agree with their lenses and poses."""

import functools

import cv2
import numpy as np

from rig3r_jax.data.image_bytes import decode_image


def epipolar_degrees(images, lenses, world_from_camera, nearer=0.7, wrong=20.0, features=4000):
    """Median angle, in degrees, between rays of matches and the epipolar planes of their partners, and their number.

    `images` are encoded. Matches farther off than `wrong` degrees are wrong matches.
    """
    keys, descriptors = zip(*(_features(image, features) for image in images), strict=True)
    pairs = [
        match[0]
        for match in cv2.BFMatcher().knnMatch(*descriptors, k=2)
        if len(match) == 2 and match[0].distance < nearer * match[1].distance
    ]
    back = {match.queryIdx: match.trainIdx for match in cv2.BFMatcher().match(*descriptors[::-1])}
    pairs = [match for match in pairs if back.get(match.trainIdx) == match.queryIdx]
    # OpenCV has the centre of the first pixel at 0.
    pixels = [
        np.array([keys[0][match.queryIdx].pt for match in pairs]) + 0.5,
        np.array([keys[1][match.trainIdx].pt for match in pairs]) + 0.5,
    ]
    rays = [
        np.asarray(lens.rays(of)) @ pose[:3, :3].T
        for lens, of, pose in zip(lenses, pixels, world_from_camera, strict=True)
    ]
    baseline = world_from_camera[1][:3, 3] - world_from_camera[0][:3, 3]
    normals = np.cross(baseline, rays[0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    angles = np.degrees(np.abs(np.arcsin(np.clip(np.sum(normals * rays[1], axis=1), -1, 1))))
    angles = angles[angles < wrong]
    return float(np.median(angles)), len(angles)


@functools.lru_cache(maxsize=8)
def _features(data, count):
    return cv2.SIFT_create(count).detectAndCompute(cv2.cvtColor(decode_image(data), cv2.COLOR_RGB2GRAY), None)
