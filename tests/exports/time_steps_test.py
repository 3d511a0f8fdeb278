"""Images that were taken together make a step, by their times or their names."""

import dataclasses

import numpy as np
import pytest

from rig3r_jax.exports.colors import UNKNOWN, confidence_ranks, image_colorings
from rig3r_jax.exports.steps import time_steps
from tests.exports.reconstructions import rig_of_three, unordered


def _timed(offsets, shift=0.0, camera=True):
    """The rig of three cameras, four steps of 0.25 s, camera i `offsets[i]` late; in a shuffled order."""
    rig = rig_of_three("pinhole")
    images = [
        dataclasses.replace(image, time=image.time + offsets[image.camera] + shift, camera=image.camera)
        for image in rig.images
    ]
    order = np.random.default_rng(3).permutation(len(images)).tolist()
    images = [images[number] if camera else dataclasses.replace(images[number], camera=None) for number in order]
    return dataclasses.replace(rig, images=tuple(images), points=None)


def _names(reconstruction):
    return [sorted(reconstruction.images[number].name for number in step) for step in time_steps(reconstruction)]


STEPS = [[f"{camera}/{step:03d}.jpg" for camera in ("front", "left", "right")] for step in range(4)]


@pytest.mark.parametrize("offsets", [(0, 0, 0), (0, 0.05, 0.1), (0.1, 0, 0.02)])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_cameras_that_expose_one_after_the_other_make_one_step(offsets, shift):
    assert _names(_timed(offsets, shift)) == STEPS


def test_images_of_no_known_camera_share_a_step_at_equal_times_alone():
    assert _names(_timed((0, 0, 0), camera=False)) == STEPS
    assert _names(_timed((0, 0.01, 0.02), camera=False)) == [[name] for step in STEPS for name in step]


def test_without_times_equal_names_below_the_cameras_folders_make_a_step():
    rig = _timed((0, 0, 0))
    untimed = dataclasses.replace(rig, images=tuple(dataclasses.replace(image, time=None) for image in rig.images))
    assert sorted(_names(untimed)) == STEPS
    assert time_steps(unordered("brown")) == [[0], [1], [2]]


def test_every_image_is_in_one_step_whatever_is_known():
    rig = _timed((0, 0, 0))
    for keep in range(8):
        images = tuple(
            dataclasses.replace(
                image,
                time=0.0 if keep & 1 else image.time,
                camera=0 if keep & 2 else None if keep & 4 else image.camera,
            )
            for image in rig.images
        )
        steps = time_steps(dataclasses.replace(rig, images=images))
        assert sorted(sum(steps, [])) == list(range(12))


def test_colorings_are_those_that_tell_images_apart():
    rig, photographs = rig_of_three("pinhole"), unordered("pinhole")
    tables = image_colorings(rig)
    assert list(tables) == ["image", "camera", "time", "rig"] and list(image_colorings(photographs)) == ["image"]
    assert len({tuple(color) for color in tables["image"].tolist()}) == 12
    for name, count in (("camera", 3), ("time", 4), ("rig", 4)):
        assert len({tuple(color) for color in tables[name].tolist()}) == count, name
    cameras = (*rig.cameras[:2], dataclasses.replace(rig.cameras[2], rig_from_camera=None))
    images = (dataclasses.replace(rig.images[0], camera=None, time=None), *rig.images[1:])
    tables = image_colorings(dataclasses.replace(rig, cameras=cameras, images=images))
    assert tuple(tables["camera"][0]) == tuple(tables["time"][0]) == tuple(tables["rig"][2]) == UNKNOWN


def test_ranks_are_the_shares_of_less_sure_points():
    assert confidence_ranks(np.array([5.0, 1.0, 2.0, 2.0])).tolist() == [0.75, 0.0, 0.25, 0.25]
    assert confidence_ranks(np.full(4, 2.0)).tolist() == [0.0] * 4
