"""The examples of the README run as they stand, on any run of Rig3R and any VGGT."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from rig3r_jax.configs import demo
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.geometry.reconstruct import SourceImage, reconstruction_of
from rig3r_jax.schema import Views
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import PlacedModel, build_model
from rig3r_jax.weights.convert import save_params
from rig3r_jax.weights.vggt import build, parameter_shapes

SMALL_VGGT = {
    "width": 32, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3], "encoder_depth": 1, "encoder_heads": 2,
    "camera_heads": 2, "trunk_depth": 1, "iterations": 1, "patch": 14, "dpt_features": 8, "dpt_last": 4,
    "dpt_widths": [4, 8, 4, 12], "log_variance": False,
}  # fmt: skip


def example(repo, number):
    """The text of a Python block of the README."""
    code = re.findall(r"```python\n(.*?)```", (repo / "README.md").read_text(), re.DOTALL)[number]
    assert max(map(len, code.splitlines())) <= 120
    return code


@pytest.fixture
def folder_with_a_run(tmp_path, monkeypatch):
    """A current folder whose runs/demo is a run of the demo's model that has not been trained."""
    config = demo.get_config()
    workdir = tmp_path / "runs" / "demo"
    workdir.mkdir(parents=True)
    save_config(config, workdir / "config.json")
    checkpoints = Checkpoints(workdir, keep=1)
    checkpoints.save(3, PlacedModel(config).init(), {"seed": 0, "next_sample": 24})
    checkpoints.wait()
    checkpoints.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_reconstructs_photographs(repo, folder_with_a_run):
    (folder_with_a_run / "photos").mkdir()
    for number in range(2):
        Image.new("RGB", (80, 60), (90 * number, 50, 200)).save(folder_with_a_run / "photos" / f"{number}.png")
    names = {}
    exec(example(repo, 0), names)
    reconstruction = read_cameras(folder_with_a_run / "scene" / "cameras.json")
    assert [image.name for image in reconstruction.images] == ["0.png", "1.png"]
    assert reconstruction.length_unit == "scene" and names["result"].images[0].width == 80
    assert {"colmap", "ply", "report"} <= names["report"].written.keys()


def test_the_network_itself_gives_cameras(folder_with_a_run):
    config, params, step = read_params("runs/demo")
    model, size = build_model(config), config.sampling.image_size
    views = Views.of_images(np.zeros((1, 6, size, size, 3), np.uint8))
    predictions = jax.jit(model.apply)({"params": params}, views)
    assert step == 3 and predictions.points.shape == (1, 6, 16, 16, 3)
    prediction, view = jax.tree.map(lambda x: np.asarray(x)[0], (predictions, views))
    sources = [SourceImage(f"{number}.png", size, size) for number in range(6)]
    write_cameras("cameras.json", reconstruction_of(prediction, view, sources))
    assert [image.name for image in read_cameras("cameras.json").images] == [one.name for one in sources]


def test_the_example_of_vggt_predicts(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shapes = parameter_shapes(build(SMALL_VGGT))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes)
    metadata = {"kind": "vggt", "source": "model.pt", "fields": json.dumps(SMALL_VGGT)}
    save_params(tmp_path / "runs" / "vggt.safetensors", params, metadata)
    names = {}
    exec(example(repo, 1), names)
    assert names["output"].depth.shape == (1, 2, 224, 224)
    assert names["output"].camera.encoding.shape == (1, 1, 2, 9)
