"""Rigs on a way through the world, and windows of their cameras as a network might predict them."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion.problem import Constraints, WindowPoses


def exp(tangents):
    """Independent of the package: scipy's rotations, V of SE(3) written out."""
    v, w = tangents[..., :3], tangents[..., 3:]
    return rigid.from_rotation_translation(Rotation.from_rotvec(w).as_matrix(), (_v_matrix(w) @ v[..., None])[..., 0])


def log(matrices):
    w = Rotation.from_matrix(matrices[:, :3, :3]).as_rotvec()
    return np.concatenate([np.linalg.solve(_v_matrix(w), matrices[:, :3, 3:])[..., 0], w], axis=-1)


def _v_matrix(w):
    angle = np.linalg.norm(w, axis=-1)[:, None, None] + 1e-9
    skew = np.swapaxes(np.cross(w[:, None, :], np.eye(3)), -1, -2)
    return np.eye(3) + (1 - np.cos(angle)) / angle**2 * skew + (angle - np.sin(angle)) / angle**3 * skew @ skew


@dataclasses.dataclass(frozen=True)
class RigDrive:
    """True cameras of `steps` x `cameras` images, ordered by step; metres."""

    world_from_camera: np.ndarray
    step: np.ndarray
    rig_from_camera: np.ndarray

    @classmethod
    def of(cls, rng, steps, cameras):
        yaw = np.cumsum(rng.normal(0, 0.2, steps))
        turns = Rotation.from_euler("y", yaw[:, None]) * Rotation.from_rotvec(0.05 * rng.normal(size=(steps, 3)))
        turns = turns.as_matrix()
        places = np.cumsum(turns @ [0, 0, 1.0] + 0.1 * rng.normal(size=(steps, 3)), axis=0) + [50.0, -3.0, 20.0]
        mounts = exp(np.concatenate([rng.normal(size=(cameras, 3)), rng.normal(size=(cameras, 3))], axis=-1))
        step, camera = np.divmod(np.arange(steps * cameras), cameras)
        return cls(rigid.from_rotation_translation(turns, places)[step] @ mounts[camera], step, mounts[camera])

    def __len__(self):
        return len(self.step)

    @property
    def first_from_camera(self):
        return rigid.invert(self.world_from_camera[0]) @ self.world_from_camera

    def window(self, rng, images, level=0.0, wild=(), stated=True):
        """Predictions of some images in a frame and unit of its own, with errors of correlated covariances."""
        images, scale = np.asarray(images), np.exp(rng.normal(0, 0.5))
        world_from_window = exp(np.concatenate([[5, 5, 5] * rng.normal(size=3), rng.normal(size=3)])[None])[0]
        predicted = rigid.invert(world_from_window) @ self.world_from_camera[images]
        predicted[:, :3, 3] /= scale
        root = np.tril(0.4 * rng.normal(size=(len(images), 6, 6)), -1) + np.eye(6)
        sizes = np.exp(0.4 * rng.normal(size=(len(images), 1, 1)))
        root = level * np.array([2, 1, 1, 0.5, 1, 0.5])[:, None] * root * sizes
        if level:
            predicted = predicted @ exp((root @ rng.normal(size=(len(images), 6, 1)))[..., 0])
        off = np.isin(images, wild)
        predicted[off] = predicted[off] @ exp(rng.normal(size=(off.sum(), 6)))
        covariance = root @ np.swapaxes(root, -1, -2) if level and stated else None
        return WindowPoses(images, predicted, covariance)

    def windows(self, rng, size, stride, level=0.0, **more):
        starts = range(0, max(1, len(self) - size + stride), stride)
        return [self.window(rng, np.arange(s, min(s + size, len(self))), level, **more) for s in starts]

    def known(self, rig=False, poses=(), **more):
        given = {"world_from_camera": self.world_from_camera, "has_pose": np.isin(np.arange(len(self)), poses)}
        held = {"step": self.step, "rig_from_camera": self.rig_from_camera}
        return Constraints(len(self), **(held if rig else {}), **(given if len(poses) else {}), **more)


def similar(estimated, true):
    """Largest difference of two sets of cameras, the first ones and the mean distances from them made equal."""
    moved = [rigid.invert(cameras[0]) @ cameras for cameras in (estimated, true)]
    for cameras in moved:
        cameras[:, :3, 3] /= np.linalg.norm(cameras[1:, :3, 3], axis=-1).mean()
    return np.abs(moved[0] - moved[1]).max()
