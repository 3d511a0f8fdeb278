"""Photographs of any number to passes, with what people should know of them."""

import numpy as np
import pytest

from rig3r_jax.inference.pass_store import opened_store
from rig3r_jax.inference.windowed import WindowOptions, windowed_passes
from tests.inference.passes_test import Counting, make_shots
from tests.inference.plan_windows_test import places_on_a_way, two_laps, unit


class Describing(Counting):
    """Whose first pixels are numbers of images."""

    def __init__(self, vectors):
        super().__init__()
        self.vectors = vectors
        self.describe = lambda images: self.vectors[images[:, 0, 0, 0].astype(int)]

    def estimate(self, views, lenses, wide):
        """Cameras on a line; of images far apart on it, which look alike, it makes one place."""
        estimate = super().estimate(views, lenses, wide)
        ahead = estimate.world_from_camera[:, 0, 3] - estimate.world_from_camera[0, 0, 3]
        estimate.world_from_camera[ahead > 50, 0, 3] -= 100
        estimate.points[...] = estimate.world_from_camera[:, None, None, :3, 3] + [0.0, 0.0, 5.0]
        return estimate


def run(model, count, **options):
    lines = []
    with opened_store(None, "m") as store:
        passes, notes = windowed_passes(model, make_shots(count), WindowOptions(**options), store, tell=lines.append)
    return passes, notes, lines


def test_one_pass_is_what_fits_one():
    passes, notes, lines = run(Counting(), 4, size=4)
    assert [one.rows.tolist() for one in passes] == [[0, 1, 2, 3]] and notes == []
    assert len(lines) == 1 and lines[0].startswith("pass 1 of 1: 4 images")


def test_a_model_without_an_encoder_has_windows_but_no_loops():
    passes, notes, lines = run(Counting(), 30, size=8)
    assert len(passes) == 7 and "not looked for" in notes[0]
    assert lines[0] == "30 images in 7 passes of 8 (56 in all)" and lines[-1].startswith("pass 7 of 7")
    assert run(Counting(), 30, size=8, most_loops=0)[1] == []
    with pytest.raises(ValueError, match="without an order"):
        run(Counting(), 30, size=8, ordered=False)


def test_loops_that_the_way_contradicts_are_left_out_and_told():
    vectors = two_laps(150, 100, np.random.default_rng(0))
    passes, notes, lines = run(Describing(vectors), 150, size=12)
    assert lines[0] == "comparing what 150 images show" and "where the way comes back" in lines[1] and len(notes) >= 3
    assert all("not taken for one place" in note for note in notes)
    assert all(np.ptp(one.rows) == 11 for one in passes)


def test_photographs_like_no_other_are_named():
    rng = np.random.default_rng(0)
    vectors = places_on_a_way(np.arange(40.0)[:, None] / 4, rng)
    vectors[17] = unit(rng, 1, vectors.shape[1])
    _, notes, _ = run(Describing(vectors), 40, size=10, ordered=False)
    assert notes == ["17.jpg: like no other image; where they were taken is a guess"]
