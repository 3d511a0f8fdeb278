"""`rig3r bench drift`: loops lower the error, wrong ones are found out, the command prints and writes its rows."""

import json

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.drift_images import seen_shots
from rig3r_jax.benchmarks.drift_model import NoisyTruth, make_loop, numbered_shots, source_of
from rig3r_jax.geometry import rigid
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.passes import Pass, model_inputs
from rig3r_jax.inference.retrieval import descriptors_of
from rig3r_jax.inference.windows import Facts, plan_windows


@pytest.fixture(scope="module")
def loop():
    return make_loop(source_of(120, 1, 0.5, 0), 1.2)


def test_noisy_truth_is_true_but_for_its_noise(loop):
    model, shots, rows = NoisyTruth(loop, 0.01, 0.5, 0), numbered_shots(loop, 8), np.arange(20, 44)
    assert isinstance(model, Model)
    one, again = (Pass.of(rows, model.estimate(*model_inputs(shots, rows))) for _ in range(2))
    true = rigid.invert(loop.world_from_camera[20]) @ loop.world_from_camera[rows]
    unit = np.linalg.norm(true[-1, :3, 3]) / np.linalg.norm(one.world_from_camera[-1, :3, 3])
    scaled = one.world_from_camera.copy()
    scaled[:, :3, 3] *= unit
    assert np.abs(scaled - true)[:, :3, :3].max() < 0.05 and np.abs(scaled - true)[:, :3, 3].max() < 1
    assert not one.covariance[0].any() and np.allclose(np.diagonal(one.covariance[1])[:3], 1e-4)
    np.testing.assert_array_equal(again.world_from_camera, one.world_from_camera)


def test_views_that_overlap_are_alike(loop):
    model, shots = NoisyTruth(loop, 0.01, 0.5, 0), numbered_shots(loop, 8)
    vectors = descriptors_of(model.describe, shots)
    plan = plan_windows(Facts.of(shots), 16, descriptors=vectors)
    apart = [np.linalg.norm(np.diff(loop.world_from_camera[list(pair), :3, 3], axis=0)) for pair in plan.loops]
    assert plan.loops and max(apart) < 10


def test_the_command_tells_what_loops_do(tmp_path, capsys):
    words = (
        "bench drift --images 120 --cameras 1 --size 16 --overlap 0.4 --laps 1.2 --false-loops 2 --sigma-deg 1".split()
    )
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    without, with_loops, with_wrong_ones = json.loads((tmp_path / "drift-noise.json").read_text())["rows"]
    assert without["loops"] == 0 < with_loops["loops"] and with_loops["wrong"] == with_loops["left out"] == 0
    assert with_wrong_ones["wrong"] == with_wrong_ones["left out"] == 2 and with_wrong_ones["wrong left"] == 0
    assert with_loops["ATE m"] < without["ATE m"]
    assert with_wrong_ones["ATE m"] == pytest.approx(with_loops["ATE m"])
    assert "120 images of one camera" in capsys.readouterr().out


def test_a_model_sees_the_images_of_the_drive_in_its_order(tmp_path):
    source = source_of(12, 3, 0.5, 0, image_size=32)
    short = make_loop(source, 0.05)
    shots = seen_shots(NoisyTruth(short, 0.01, 0.5, 0), source, short.drive, tmp_path, rig=True)
    assert [shot.photograph.camera for shot in shots] == ["camera0", "camera1", "camera2"] * 4
    assert [shot.time for shot in shots[::3]] == pytest.approx(short.drive.times - short.drive.times[0])
    places = np.stack([shot.rig_from_camera for shot in shots])
    np.testing.assert_allclose(places, rigid.invert(short.rig_from_camera[:1]) @ short.rig_from_camera, atol=1e-6)
    assert all(shot.seen.shape == (64, 64, 3) and shot.seen.std() > 5 for shot in shots)
