"""The moments of a reconstruction, in the order in which people play through its images."""

import numpy as np

from rig3r_jax.exports.rig import folders_of, shortest_interval
from rig3r_jax.schema import Reconstruction


def time_steps(reconstruction: Reconstruction) -> list[list[int]]:
    """Images that were taken together, by number; every image is in one step.

    With times: those of a step lie within half the shortest interval at which any camera takes images (any, where none
    takes two), as the cameras of a rig rarely expose at once, and no camera is in it twice. Images of no known camera
    share a step where their times are equal. Without times: images of equal names below their cameras' folders, else
    each image alone, in the order of the reconstruction.
    """
    if all(image.time is not None for image in reconstruction.images):
        return _by_time(reconstruction)
    return _by_name(reconstruction)


def _by_time(reconstruction: Reconstruction) -> list[list[int]]:
    images = reconstruction.images
    reach = shortest_interval(reconstruction) / 2 or np.inf
    steps: list[list[int]] = []
    for number in sorted(range(len(images)), key=lambda number: images[number].time):
        image, step = images[number], steps[-1] if steps else []
        cameras = {images[other].camera for other in step} - {None}
        # An image of no known camera may be the next of the same one.
        allowed = 0.0 if image.camera is None or not cameras else reach
        if step and image.time - images[step[0]].time <= allowed and image.camera not in cameras:
            step.append(number)
        else:
            steps.append([number])
    return steps


def _by_name(reconstruction: Reconstruction) -> list[list[int]]:
    folders, steps = folders_of(reconstruction), {}
    for number, image in enumerate(reconstruction.images):
        key = number if image.camera is None else image.name[len(folders[image.camera]) :]
        cameras = {reconstruction.images[other].camera for other in steps.get(key, ())}
        steps.setdefault((key, number) if image.camera in cameras else key, []).append(number)
    return list(steps.values())
