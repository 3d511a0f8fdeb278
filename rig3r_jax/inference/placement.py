"""One set of cameras from what passes say and what is known: rigs and poses that are given are held."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.reconstruct import SourceImage, rig_scale
from rig3r_jax.geometry.rig_poses import world_from_rigs
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.shots import Shot
from rig3r_jax.schema import PhysicalCamera, Scale


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where all images were taken from, in one world and unit."""

    world_from_camera: Float[np.ndarray, "v 4 4"]
    pose_sources: tuple[str, ...]  # of NUMBER_SOURCES
    covariance: Float[np.ndarray, "v 6 6"] | None
    factors: Float[np.ndarray, " p"]  # of each pass: lengths of the world over those of its estimate
    scale: Scale
    frame: str  # the world, in words


def place(passes: Sequence[Pass], shots: Sequence[Shot], cameras: Sequence[PhysicalCamera]) -> Placement:
    """Poses of all images. With a known rig the cameras of every step sit on it exactly, and lengths are metres."""
    (only,) = passes
    sources = [
        SourceImage(shot.photograph.name, shot.width, shot.height, camera=camera_id)
        for shot, camera_id in zip(shots, camera_numbers(shots), strict=True)
    ]
    centers = None if only.estimate.rig_from_camera is None else only.estimate.rig_from_camera[:, :3, 3]
    scale = (None if centers is None else rig_scale(centers, sources, cameras)) or Scale(1.0, "none")
    poses = only.estimate.world_from_camera.copy()
    poses[:, :3, 3] *= scale.factor
    sources_of_poses = ("predicted",) * len(shots)
    if scale.source != "none" and all(s.front_from_camera is not None and s.photograph.step is not None for s in shots):
        rig_from_camera = np.stack([shot.front_from_camera for shot in shots])
        steps = np.array([shot.photograph.step for shot in shots])
        world_from_rig = world_from_rigs(poses, rig_from_camera, steps)
        poses = np.stack([world_from_rig[step] for step in steps.tolist()]) @ rig_from_camera
        poses = rigid.invert(poses[0]) @ poses
        sources_of_poses = ("fitted",) * len(shots)
    return Placement(
        poses, sources_of_poses, None, np.array([scale.factor]), scale, "OpenCV axes, world = first image's camera"
    )


def camera_numbers(shots: Sequence[Shot]) -> list[int | None]:
    """The number of each image's physical camera; None of no known camera."""
    names = [shot.photograph.camera for shot in shots]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return [numbers.get(name) for name in names]
