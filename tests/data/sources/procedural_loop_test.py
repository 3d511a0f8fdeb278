"""Drives on closed roads come back to where they were."""

import numpy as np
import pytest

from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.sources.procedural.loop import closed_road, loop_drive
from rig3r_jax.data.sources.procedural.scenes import seen_scene
from rig3r_jax.data.sources.procedural.source import Procedural


@pytest.mark.parametrize("seed", range(4))
def test_a_closed_road_is_in_one_place_every_lap(seed):
    road = closed_road(np.random.default_rng(seed), 300.0, 700.0)
    distances = np.arange(0.0, 300.0)
    (one, heading), (other, later) = (road.at(distances + lap, np.zeros(300)) for lap in (0.0, 300.0))
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(np.abs(later - heading), 2 * np.pi, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.diff(one, axis=0), axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(road.at(np.array([0.0]), np.array([0.0]))[0], 0, atol=1e-9)
    assert np.abs(np.gradient(road.headings)).max() < 1 / 10  # radius of bends, metres


def test_a_drive_of_more_than_a_lap_is_near_its_own_track():
    source = Procedural(steps=120, interval=0.5, min_cameras=2, max_cameras=2, layouts=("stereo",))
    driven = loop_drive(source, 1.2)
    centers = driven.world_from_rig[:, :3, 3]
    apart = np.linalg.norm(centers[110] - centers[:20], axis=1)
    assert apart.min() < 2.5 and np.linalg.norm(centers[60] - centers[0]) > 50
    np.testing.assert_array_equal(loop_drive(source, 1.2).world_from_rig, driven.world_from_rig)
    with pytest.raises(ValueError, match="shorter than 100 m"):
        loop_drive(source, 9.0)


def test_what_is_seen_again_looks_the_same():
    source = Procedural(steps=120, interval=0.5, min_cameras=1, max_cameras=1, layouts=("single",), image_size=32)
    driven = loop_drive(source, 1.2)
    centers = driven.world_from_rig[:, :3, 3]
    again = int(np.argmin(np.linalg.norm(centers[105] - centers[:20], axis=1)))
    few = type(driven)(
        driven.rig, driven.world, driven.times[[again, 105, 60]], driven.world_from_rig[[again, 105, 60]]
    )
    first, second, elsewhere = (
        decode_image(frame.image).astype(float) for frame in seen_scene(source, "loop", few).frames
    )
    assert 2 * np.abs(first - second).mean() < np.abs(first - elsewhere).mean()
