"""Samples answered without images: all cameras in one place, or moving straight ahead."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.baselines import moving_forward, rig_moving_straight
from rig3r_jax.evaluation.sample_data import SampleData
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.inference.baselines.answer import Task
from rig3r_jax.schema import PosedImage, Reconstruction, Scale

# Focal length of an unknown lens over the longer side, as COLMAP begins (default_focal_length_factor).
_FOCAL_GUESS = 1.2


def identity(task: Task) -> Reconstruction:
    """Every camera at the origin, its axes the world's."""
    return _guessed(task.sample, np.tile(np.eye(4), (len(task.sample.truth.images), 1, 1)))


def forward(task: Task) -> Reconstruction:
    """Every camera with the world's axes, `speed` times its time along z."""
    return _guessed(task.sample, moving_forward(_times(task.sample), task.options.speed))


def closed_form(task: Task) -> Reconstruction:
    """The true rig moving along its front camera's axis; cameras and lenses are those of the truth.

    The front camera is the one at the rig's origin, else that of the first image. ValueError where a camera has no
    place in the rig.
    """
    sample = task.sample
    places = sample.places(sample.cameras)
    rig_from_front = next((place for place in places if np.allclose(place, np.eye(4), atol=1e-9)), places[0])
    front_from_camera = rigid.invert(rig_from_front) @ places
    poses = rig_moving_straight(_times(sample), front_from_camera, task.options.speed)
    lenses = [image.lens for image in sample.truth.images]
    return _posed(sample, poses, lenses, with_rig=True)


def _times(sample: SampleData) -> Float[np.ndarray, " v"]:
    """Seconds since the first image, whatever the file's clock."""
    seconds = np.array([image.time for image in sample.truth.images], np.float64)
    return seconds - seconds[0]


def _guessed(sample: SampleData, poses: Float[np.ndarray, "v 4 4"]) -> Reconstruction:
    """With the lenses that one would guess of images of their sizes."""
    lenses = []
    for image in sample.truth.images:
        focal = _FOCAL_GUESS * max(image.width, image.height)
        lenses.append(Pinhole(np.array([[focal, 0, image.width / 2], [0, focal, image.height / 2], [0, 0, 1.0]])))
    return _posed(sample, poses, lenses, with_rig=False)


def _posed(sample: SampleData, poses: Float[np.ndarray, "v 4 4"], lenses: list[Lens], with_rig: bool) -> Reconstruction:
    """Lengths are metres where they hold the true rig; without it they are a guessed speed alone, and no metres."""
    truth = sample.truth
    images = tuple(
        PosedImage(
            name=image.name,
            width=image.width,
            height=image.height,
            lens=lens,
            world_from_camera=pose,
            camera=image.camera if with_rig else None,
            time=image.time,
        )
        for image, lens, pose in zip(truth.images, lenses, poses, strict=True)
    )
    cameras, unit = (truth.cameras, "metre") if with_rig else ((), "scene")
    return Reconstruction(images, cameras, unit, None if with_rig else Scale(1.0, "none"))
