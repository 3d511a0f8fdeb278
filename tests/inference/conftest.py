"""Tiny models, made once for all tests of inference."""

import json

import jax
import numpy as np
import pytest
from tiny_models import FIELDS, keep, uncertainty_run

from rig3r_jax import cli
from rig3r_jax.configs import demo
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import save_params


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
