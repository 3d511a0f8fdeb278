"""Models that come with the package, and the files and cards by which they come."""

import hashlib
import json
import shutil
import tomllib

import jax
import numpy as np
import pytest
from tiny_models import views_of

import rig3r_jax
from rig3r_jax import cli
from rig3r_jax.configs import base, demo
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.training.config import flat_config, save_config, workdir_config
from rig3r_jax.training.rig3r.card import _licence
from rig3r_jax.training.rig3r.params import read_params, restored_params, run_config
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.weights.files import write_tensors
from rig3r_jax.weights.shipped_models import FOLDER, shipped_names

ROW = {"RRA15": 93.25, "RTA15": 50.0, "mAA30": 40.0, "rig_mAA30": None, "chamfer_relative": 0.125}


@pytest.fixture
def evaluated(rig3r_run, tmp_path):
    """The workdir of an evaluated run, whose records and raw data lie somewhere on this machine."""
    workdir = shutil.copytree(rig3r_run, tmp_path / "evaluated")
    config = workdir_config(workdir)
    config.data.records = str(tmp_path / "records")
    config.data.mixture[0].root = str(tmp_path / "root")
    config.train.copy_checkpoints_to = "gs://a-bucket-of-ours/copies"
    config.train.steps = 2
    save_config(config, workdir / "config.json")
    rows = {"none": ROW, "none, images blanked": ROW | {"mAA30": 7.5}, "all": ROW | {"mAA30": 72.0}}
    content = {"step": 2, "samples_per_set": 200, "images_per_sample": 6, "sets": {"unseen_rigs": rows}}
    (workdir / "evaluation.json").write_text(json.dumps(content))
    return workdir


def test_every_shipped_model_is_small_and_has_its_card(repo):
    assert "demo" in shipped_names()
    for name in shipped_names():
        file, card = FOLDER / f"{name}.safetensors", (FOLDER / f"{name}.md").read_text()
        assert file.stat().st_size < 20e6 and hashlib.sha256(file.read_bytes()).hexdigest() in card
        assert all(f"\n## {section}\n" in card for section in ("Data", "Figures", "Limits"))
        assert run_config(file).data.records == "" and "| images alone |" in card
    patterns = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert FOLDER == repo / "rig3r_jax/weights/shipped" and patterns["rig3r_jax.weights"] == ["shipped/*"]


def test_a_shipped_model_goes_by_its_name_but_after_a_path_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = rig3r_jax.load("demo").model
    assert model.usual_views == 6 and model.takes_rig and "demo" in model.name
    (tmp_path / "demo").mkdir()
    with pytest.raises(ValueError, match="demo: a folder with neither config.json"):
        open_model("demo")
    with pytest.raises(FileNotFoundError, match="one that comes with the package: demo"):
        open_model("demos")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_exported_file_is_its_run(rig3r_run, evaluated, tmp_path, dtype):
    file = tmp_path / "few.safetensors"
    assert cli.main(["export", str(evaluated), str(file), *(["--bfloat16"] if dtype == "bfloat16" else [])]) == 0
    (config, params, step), (own, expected, own_step) = read_params(file), read_params(evaluated)
    assert step == own_step == 2 and str(tmp_path) not in json.dumps(flat_config(config))
    differing = {key for key, value in flat_config(own).items() if flat_config(config)[key] != value}
    assert differing == {"data.records", "data.mixture[0].root", "train.copy_checkpoints_to"}
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf, dtype).astype(np.float32), expected)
    jax.tree.map(np.testing.assert_array_equal, params, rounded)
    placed, _ = restored_params(file, PlacedModel(config, jax.devices()[:1]).abstract_params)
    jax.tree.map(np.testing.assert_array_equal, placed, rounded)
    outputs = [open_model(path).outputs(views_of(2, 32, 32)) for path in (file, rig3r_run)]
    for name, value in outputs[1].items():
        np.testing.assert_allclose(outputs[0][name], value, rtol=1e-6 if dtype == "float32" else 0.2, atol=0.1)


def test_a_card_says_what_the_run_was_and_reached(evaluated, tmp_path, capsys):
    file = tmp_path / "few.safetensors"
    assert cli.main(["export", str(evaluated), str(file), "--card"]) == 0
    card = file.with_suffix(".md").read_text()
    assert "| images alone | 93.2 | 50.0 | 40.0 | - | 0.12 |" in card
    assert "Images alone reach 40.0 mAA30 of unseen rigs, blank ones 7.5" in card
    for words in ("rig3r train --config=demo ", " --config.model.dpt_features=8 ", "--config.train.steps=2"):
        assert words in card
    assert "trained on rendered worlds alone" in card and str(tmp_path) not in card and "bucket" not in card
    assert "| licence | Apache-2.0, as the package |" in card
    (evaluated / "evaluation.json").unlink()
    assert cli.main(["export", str(evaluated), str(tmp_path / "other.safetensors"), "--card"]) == 2
    assert "evaluation.json is missing: make it with rig3r evaluate" in capsys.readouterr().err
    assert not (tmp_path / "other.safetensors").exists()


def test_a_card_has_the_terms_of_weights_and_of_recorded_data():
    config = demo.get_config()
    config.data.mixture.append(base.dataset("ddad", weight=0.5))
    assert _licence(config) == "as the data allow: ddad"
    config.model.init_from = "/somewhere/dust3r.safetensors"
    assert _licence(config) == "that of dust3r.safetensors, from which it was started"


def test_files_that_are_no_runs_are_told(evaluated, tmp_path, capsys):
    file = tmp_path / "few.safetensors"
    write_tensors(file, {"a": np.zeros(2, np.float32)}, {"format": "rig3r-weights", "version": "1", "kind": "rig3r"})
    with pytest.raises(ValueError, match="does not hold the config of a run of rig3r"):
        run_config(file)
    assert cli.main(["evaluate", "demo", "--out", str(tmp_path / "out")]) == 2
    assert "demo: is a file of weights, without data of its own; give --on and --out" in capsys.readouterr().err
    assert cli.main(["export", str(evaluated), str(tmp_path / "x"), "--stablehlo", "--card"]) == 2
    assert "--card is of a file of weights" in capsys.readouterr().err
