"""`rig3r bench fusion`: drawn predictions, and those of a workdir."""

import json

import jax
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks import fusion
from rig3r_jax.configs import demo
from rig3r_jax.data.sources.procedural.scenes import make_drive
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.geometry import rigid
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.setup import PlacedModel

FLAGS = ["--drives", "1", "--steps", "4", "--window-steps", "3", "--overlap-steps", "2", "--name", "f"]


def test_a_known_rig_lowers_the_errors_and_gives_the_scale(tmp_path):
    flags = [*FLAGS, "--steps", "8", "--noise", "0.003", "--wild", "0", "--out", str(tmp_path)]
    assert cli.main(["bench", "fusion", *flags]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "f.json").read_text())["rows"]}
    assert list(rows) == [method.name for method in fusion.METHODS]
    without, with_rig = (rows[f"{rig}, pose graph, covariances"] for rig in ("no rig", "rig"))
    for error in ("rotation deg", "translation m"):
        assert with_rig[error] < without[error]
    assert with_rig["scale %"] < 2 and without["scale %"] is None


def test_drawn_errors_have_the_covariances_that_they_state():
    drive = make_drive(Procedural(test_worlds=1, steps=60, min_cameras=6, max_cameras=6), fusion.SPLIT, 0)
    case = fusion.drawn_case(np.random.default_rng(0), drive, [list(range(60))], 0.001, 0.0)
    (window,) = case.windows
    first_from_camera = rigid.invert(case.world_from_camera[window.images[0]]) @ case.world_from_camera[window.images]
    errors = rigid.invert(window.window_from_camera) @ first_from_camera
    angles = np.stack([errors[:, 2, 1], errors[:, 0, 2], errors[:, 1, 0]], axis=-1)  # lengths have a unit of their own
    squares = np.einsum("ni,nij,nj->n", angles, np.linalg.inv(window.covariance[:, 3:, 3:]), angles)
    assert squares.mean() == pytest.approx(3.0, abs=4 * np.sqrt(6 / len(angles)))


def test_a_workdir_predicts_the_windows_of_the_drives(tmp_path):
    config = demo.get_config()
    config.sampling.image_size, config.model.encoder_depth, config.model.decoder_depth = 32, 1, 4
    config.data.mixture[0].options.image_size = 32
    save_config(config, tmp_path / "config.json")
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(3, PlacedModel(config, jax.devices()[:1]).init(), {"seed": 0, "next_sample": 0})
    checkpoints.wait()
    checkpoints.close()
    flags = [*FLAGS, "--noise", "0.003", "--wild", "0", "--out", str(tmp_path), "--workdir", str(tmp_path)]
    assert cli.main(["bench", "fusion", *flags]) == 0
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    told = {row["predictions"] for row in rows}
    assert told == {"drawn", "Rig3R, told nothing", "Rig3R, told the rig"}
    assert all(np.isfinite(row["rotation deg"]) for row in rows)


def test_windows_that_do_not_overlap_are_refused(capsys):
    assert cli.main(["bench", "fusion", "--window-steps", "2", "--overlap-steps", "2"]) == 2
    assert "windows of 2 steps that overlap by 2 of 20" in capsys.readouterr().err
