"""Tiny models, made once for all tests of inference, and a rig whose model knows the truth."""

import json

import jax
import numpy as np
import pytest
from tiny_models import FIELDS, keep, uncertainty_run

from rig3r_jax import cli
from rig3r_jax.configs import demo
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.rig_config import write_rig_config
from rig3r_jax.geometry.camera import Brown
from rig3r_jax.inference.models import open as models
from rig3r_jax.inference.photographs import find_photographs
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import save_params
from tests.inference.truth import LENSES, PLACES, SIZES, drive, write_rig_images

STEPS = 4  # of the rig


@pytest.fixture
def rig(tmp_path, monkeypatch):
    """(folder of images, its model's true world_from_camera, the model, words of a command without --out)."""
    folder = write_rig_images(tmp_path / "shots", STEPS)
    _, photographs = find_photographs([folder])
    poses, truth = drive(photographs)
    monkeypatch.setattr(models, "content_of", lambda path: "run of rig3r")
    monkeypatch.setattr(models, "open_model", lambda path: truth)
    # COLMAP's OPENCV has no k3.
    lenses = {**LENSES, "left": Brown(LENSES["left"].intrinsics, LENSES["left"].distortion * [1, 1, 1, 1, 0])}
    cameras = (CalibratedCamera(name, lenses[name], None, PLACES[name]) for name in SIZES)
    write_rig_config(tmp_path / "rig_config.json", RigCalibration(tuple(cameras), "front"))
    return folder, poses, truth, ["reconstruct", str(folder), "--model=run", f"--rig={tmp_path}/rig_config.json"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def rig3r_run(model_folder):
    """The workdir of a run with fresh parameters."""
    workdir, config = model_folder / "run", demo.get_config()
    workdir.mkdir()
    config.sampling.image_size, config.model.variant = 32, "tiny"
    config.model.dpt_features, config.model.dpt_last, config.model.ray_hidden = 8, 8, 8
    config.model.rays_per_patch = 4
    save_config(config, workdir / "config.json")
    keep(workdir, PlacedModel(config, jax.devices()[:1]).init())
    return workdir


@pytest.fixture(scope="session")
def vggt_file(model_folder):
    """A converted VGGT; fields of view are about a radian."""
    rng = np.random.default_rng(0)

    def some(leaf):
        return (0.2 * rng.normal(size=leaf.shape)).astype(np.float32)

    params = jax.tree.map(some, vggt.parameter_shapes(vggt.build(FIELDS)))
    params["camera_head"]["refinement"]["pose"]["fc2"]["bias"][6:] = 0.5
    path = model_folder / "vggt.safetensors"
    save_params(path, params, {"kind": "vggt", "fields": json.dumps(FIELDS), "source": "x.pt"})
    return path


@pytest.fixture(scope="session")
def rig3r_head(model_folder, rig3r_run):
    return uncertainty_run(model_folder / "rig3r_head", rig3r_run)


@pytest.fixture(scope="session")
def vggt_head(model_folder, vggt_file):
    return uncertainty_run(model_folder / "vggt_head", vggt_file, parameterisation="log_variance")


@pytest.fixture(scope="session")
def exported(model_folder, rig3r_run, vggt_file, rig3r_head):
    """Folders of exported networks of 3 images, by what they were made of."""
    sources = {"rig3r": rig3r_run, "vggt": vggt_file, "head": rig3r_head}
    for name, source in sources.items():
        size = ["--size", "32x24"] if name == "vggt" else []
        words = ["export", "--stablehlo", str(source), str(model_folder / f"{name}_exported"), "--views", "3", *size]
        assert cli.main(words) == 0
    return {source: model_folder / f"{name}_exported" for name, source in sources.items()}
