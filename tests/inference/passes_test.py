"""Passes one after the other: points leave the memory, and what was done is not done again."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig3r_jax.geometry.camera import Fisheye, Pinhole, stride_pixels
from rig3r_jax.inference.pass_store import PassStore, opened_store, tree_digest
from rig3r_jax.inference.passes import Pass, model_inputs, run_passes
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.progress import PassProgress, duration, resident_bytes
from rig3r_jax.inference.retrieval import descriptors_of
from rig3r_jax.inference.scale_ratios import scale_ratios
from rig3r_jax.inference.shots import Shot, views_of
from rig3r_jax.inference.thinning import thinned, thinning
from rig3r_jax.inference.windows import Facts, plan_windows
from rig3r_jax.schema import Estimate

SIDE = 32


class Counting:
    """A model whose points are numbers of pixels; it counts its passes, and stops at one."""

    name, licence, usual_views, takes_rig, fill = "counting", None, 4, True, 0
    notes, most_views, describe, digest = (), None, None, "counting"

    def __init__(self, side=SIDE, stop_at=None):
        self.side, self.calls, self.stop_at = side, 0, stop_at

    def input_size(self, sizes):
        return self.side, self.side

    def peak_bytes(self, views, size):
        return 0

    def estimate(self, views, lenses, wide):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        count = len(views.images)
        shades = views.images[:, 0, 0, 0].astype(np.float64)
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, 0, 3] = shades
        grid = np.arange(self.side * self.side * 3, dtype=np.float64).reshape(1, self.side, self.side, 3)
        points = grid + shades[:, None, None, None]
        confidence = 1 + np.tile(shades[:, None, None], (1, self.side, self.side))
        pinhole = Pinhole(np.array([[30.25, 0, 16], [0, 30.125, 16], [0, 0, 1]]))
        return Estimate(poses, tuple(lens or pinhole for lens in lenses), points, confidence, error=1 / confidence)


def make_shots(count, side=SIDE, lens=None):
    shots = []
    for number in range(count):
        seen = np.full((side, side, 3), number % 256, np.uint8)
        whole = np.ones((side, side), bool)
        photograph = Photograph(pathlib.Path(f"{number}.jpg"), f"{number}.jpg")
        shots.append(Shot(photograph, side, side, seen, whole, whole, lens, None, None, None))
    return shots


def windows_of(shots, size=4):
    return plan_windows(Facts.of(shots), size).windows


def assert_same(one: Pass, other: Pass):
    for name in ("rows", "world_from_camera", "confidence", "distances"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("points", "confidence", "error"):
        np.testing.assert_array_equal(getattr(one.estimate, name), getattr(other.estimate, name))
    assert [lens.to_numbers() for lens in one.lenses] == [lens.to_numbers() for lens in other.lenses]
    assert [lens.to_numbers() for lens in one.estimate.lenses] == [lens.to_numbers() for lens in other.lenses]


def test_passes_from_files_are_those_of_the_model(tmp_path):
    fisheye = Fisheye(np.array([[20.1, 0, 16], [0, 20.2, 16], [0, 0, 1]]), np.array([0.1, 0.0, 1e-3, 0.0]))
    shots, model = make_shots(10, lens=fisheye), Counting()
    passes = run_passes(model, shots, windows_of(shots), PassStore(tmp_path, "m"))
    assert model.calls == len(passes) == len(list(tmp_path.iterdir()))
    for one in passes:
        assert_same(one, Pass.of(one.rows, model.estimate(*model_inputs(shots, one.rows))))


@pytest.mark.parametrize("kinds", [(Pinhole,), (Fisheye,), (Pinhole, Fisheye)])
def test_a_rig_of_pinholes_alone_is_told_without_distortion(kinds):
    intrinsics = np.array([[20.0, 0, 16], [0, 20.0, 16], [0, 0, 1]])
    lenses = [kind(intrinsics) if kind is Pinhole else kind(intrinsics, np.full(4, 0.01)) for kind in kinds]
    (shot,) = make_shots(1)
    shots = [dataclasses.replace(shot, lens=lens, front_from_camera=np.eye(4)) for lens in lenses]
    metadata = views_of(shots).metadata
    assert metadata.has_rig.all() and metadata.intrinsics.dtype == np.float32
    assert (metadata.distortion is None) == (kinds == (Pinhole,))


def test_what_was_done_is_not_done_again_and_what_changed_is(tmp_path):
    shots, model, lines = make_shots(10), Counting(), []
    windows = windows_of(shots)
    before = run_passes(model, shots, windows, PassStore(tmp_path, "m"))
    again = Counting()
    progress = PassProgress(len(windows), lines.append)
    after = run_passes(again, shots, windows, PassStore(tmp_path, "m"), progress=progress)
    for one, other in zip(before, after, strict=True):
        assert_same(one, other)
    assert again.calls == 0 and all("from before" in line for line in lines)
    shots[0] = make_shots(12)[11]
    run_passes(again, shots, windows, PassStore(tmp_path, "m"))
    assert again.calls == sum(0 in rows for rows in windows) == 1
    for change in ({"wide": True}, {"points": 10 * 16}):
        again = Counting()
        run_passes(again, shots, windows, PassStore(tmp_path, "m"), **change)
        assert again.calls == len(windows)
    again = Counting()
    run_passes(again, shots, windows, PassStore(tmp_path, "another model"))
    assert again.calls == len(windows)


def test_a_run_that_was_stopped_goes_on(tmp_path):
    shots = make_shots(12)
    windows = windows_of(shots)
    with pytest.raises(KeyboardInterrupt):
        run_passes(Counting(stop_at=3), shots, windows, PassStore(tmp_path, "m"))
    (tmp_path / f".{next(tmp_path.iterdir()).name}.0123.tmp").write_bytes(b"half of a file, of a killed process")
    model = Counting()
    run_passes(model, shots, windows, PassStore(tmp_path, "m"))
    assert model.calls == len(windows) - 3


def test_a_damaged_file_is_made_again_and_a_lost_one_is_named(tmp_path, caplog):
    shots = make_shots(6)
    windows = windows_of(shots)
    run_passes(Counting(), shots, windows, PassStore(tmp_path, "m"))
    file = sorted(tmp_path.iterdir())[0]
    for damaged in (file.read_bytes()[:900], b"", b"no archive", file.read_bytes()[:-3000] + bytes(3000)):
        file.write_bytes(damaged)
        model = Counting()
        passes = run_passes(model, shots, windows, PassStore(tmp_path, "m"))
        assert model.calls == 1 and f"{file}: is damaged" in caplog.text
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"npz: was written by a pass of this run and cannot be read"):
        passes[0].load()


def test_a_store_without_a_folder_is_gone_afterwards():
    shots = make_shots(5)
    with opened_store(None, "m") as store:
        (one, *_) = run_passes(Counting(), shots, windows_of(shots), store)
        assert one.estimate.points.shape[0] == len(one.rows)
    assert not store.folder.exists()


@given(st.sampled_from([(32, 32), (28, 42), (56, 42), (9, 15)]), st.sampled_from([1, 2, 3, 4]), st.integers(1, 3000))
def test_a_thinned_grid_tells_its_pixels(grid, pixels_apart, most):
    size = grid[0] * pixels_apart, grid[1] * pixels_apart
    n = thinning(grid, size, most)
    before = [stride_pixels(side, count) for side, count in zip(size, grid, strict=True)]
    points = np.stack(np.meshgrid(*before, [0], indexing="ij"), axis=-1).reshape(1, *grid, 3)
    estimate = Estimate(np.eye(4)[None], (None,), points, np.ones((1, *grid)))
    kept = thinned(estimate, n).points[0]
    after = [stride_pixels(side, count) for side, count in zip(size, kept.shape[:2], strict=True)]
    np.testing.assert_array_equal(kept[..., 0], np.broadcast_to(after[0][:, None], kept.shape[:2]))
    np.testing.assert_array_equal(kept[..., 1], np.broadcast_to(after[1], kept.shape[:2]))
    if pixels_apart == 1 and most >= grid[0] * grid[1] / np.gcd(*grid) ** 2:
        assert kept.shape[0] * kept.shape[1] <= most


def test_points_of_all_images_stay_within_the_number_asked_for(tmp_path):
    shots = make_shots(10)
    passes = run_passes(Counting(), shots, windows_of(shots), PassStore(tmp_path, "m"), points=10 * 100)
    assert {one.estimate.points.shape[1:3] for one in passes} == {(8, 8)}


def test_images_that_define_a_pass_s_world_are_a_little_unsure_in_joining():
    estimate = Counting().estimate(views_of(make_shots(3)), [None] * 3, [False] * 3)
    assert Pass.of(np.arange(3), estimate).joining_covariance is None
    covariance = np.stack([np.zeros((6, 6)), np.eye(6), 3 * np.eye(6)])
    one = Pass.of(np.arange(3), dataclasses.replace(estimate, covariance=covariance))
    np.testing.assert_allclose(one.joining_covariance, np.array([0.02, 1, 3])[:, None, None] * np.eye(6))
    assert not one.covariance[0].any()


def test_distances_tell_how_units_compare():
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 2, 3] = np.arange(6)
    points = rng.uniform(4, 9, (6, 24, 24, 3))
    pinhole = Pinhole(np.eye(3))
    passes = []
    for rows, unit in (([0, 1, 2, 3], 2.0), ([2, 3, 4], 0.5), ([4, 5], 1.0)):
        scaled = poses[rows].copy()
        scaled[:, :3, 3] /= unit
        noisy = points[rows] / unit * np.exp(rng.normal(scale=0.01, size=(len(rows), 1, 1, 1)))
        estimate = Estimate(scaled, (pinhole,) * len(rows), noisy, np.ones((len(rows), 24, 24)))
        passes.append(Pass.of(np.array(rows), estimate))
    ratios = scale_ratios(passes)
    assert [(ratio.first, ratio.second) for ratio in ratios] == [(0, 1), (1, 2)]
    # A length in the unit of the first over the same length in that of the second: units the other way round.
    np.testing.assert_allclose([ratio.log_ratio for ratio in ratios], np.log([0.5 / 2, 1 / 0.5]), atol=0.04)
    assert all(0.005 <= ratio.sigma < 0.05 for ratio in ratios)


def test_digests_tell_trees_apart():
    tree = {"a": np.arange(3.0), "b": np.float32(1)}
    same = {"a": np.arange(3.0), "b": np.float32(1)}
    others = [
        {"a": np.arange(3.0), "c": np.float32(1)},
        {"a": np.arange(3.0), "b": np.float64(1)},
        {"a": np.arange(3.0)[:, None], "b": np.float32(1)},
        {"a": np.arange(3.0) + 1e-12, "b": np.float32(1)},
    ]
    assert tree_digest(tree) == tree_digest(same)
    assert len({tree_digest(other) for other in [tree, *others]} | {tree_digest(tree, "words")}) == 6


def test_photographs_are_described_in_groups():
    shots, groups = make_shots(130, side=4), []
    vectors = descriptors_of(lambda images: groups.append(len(images)) or images[:, 0, 0].astype(np.float32), shots)
    assert groups == [64, 64, 2] and vectors[:, 0].tolist() == list(range(130))


def test_progress_tells_passes_memory_and_what_is_left():
    lines, times = [], iter([0.0, 30.0, 40.0, 40.5, 50.5])
    progress = PassProgress(4, lines.append, lambda: next(times))
    progress.advance(24)
    progress.advance(24)
    progress.advance(24, reused=True)
    progress.advance(20)
    assert lines[0].startswith("pass 1 of 4: 24 images, ") and lines[0].endswith("GB in memory, 2 min left")
    assert lines[1].endswith("20 s left") and lines[2].endswith("from before, 10 s left")
    assert "left" not in lines[3]
    assert [duration(seconds) for seconds in (40.0, 720.0, 12e3)] == ["40 s", "12 min", "3 h 20 min"]
    assert resident_bytes() > 1e7


PEAK = textwrap.dedent("""
    import json, resource
    from tests.inference.passes_test import *

    def peak(count):
        shots = make_shots(count, side=64)
        with opened_store(None, "m") as store:
            passes = run_passes(Counting(side=64), shots, windows_of(shots, 12), store)
            images = sum(len(one.rows) for one in passes)
        points = images * 64 * 64 * 5 * 8
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, points

    print(json.dumps([peak(40), peak(300)]))
""")


def test_memory_does_not_grow_with_the_passes():
    here = pathlib.Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, cwd=here, check=True)
    (few, _), (many, points) = json.loads(run.stdout)
    images = 260 * 64 * 64 * 5  # bytes of what the model sees
    assert points > 6e7 and many - few < images + 15e6
