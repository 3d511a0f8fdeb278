"""The example of the README runs as it stands, on any run of Rig3R."""

import re

import pytest

from rig3r_jax.configs import demo
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.setup import PlacedModel


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


def test_the_example_writes_cameras(repo, folder_with_a_run):
    code = re.search(r"```python\n(.*?)```", (repo / "README.md").read_text(), re.DOTALL)[1]
    names = {}
    exec(code, names)
    assert names["step"] == 3
    assert names["predictions"].points.shape == (1, 6, 16, 16, 3)
    reconstruction = read_cameras(folder_with_a_run / "cameras.json")
    assert [image.name for image in reconstruction.images] == [f"{view}.png" for view in range(6)]
    assert reconstruction.length_unit == "scene"
    assert max(map(len, code.splitlines())) <= 120
