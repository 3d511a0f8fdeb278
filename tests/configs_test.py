"""Configs: installed ones are taken by name from any folder, and the top folder's files are their entry points."""

import importlib
import subprocess
import sys

import pytest

from rig3r_jax.training.flags import config_names, read_config
from tests.conftest import REPO

NAMES = [name for name in config_names() if name != "base"]


def test_every_installed_config_has_an_entry_point():
    assert sorted(path.stem for path in (REPO / "configs").glob("*.py")) == NAMES
    assert "demo" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_name_and_entry_point_are_the_same_config(monkeypatch, tmp_path, name):
    config = importlib.import_module(f"rig3r_jax.configs.{name}").get_config()
    assert config.name == name
    monkeypatch.chdir(tmp_path)
    for flag in (f"--config={name}", f"--config={REPO}/configs/{name}.py"):
        assert read_config([flag]).to_dict() == config.to_dict()


def test_configs_load_no_jax():
    modules = ", ".join(f"rig3r_jax.configs.{name}" for name in config_names())
    code = f"import sys, {modules}; sys.exit(bool({{'jax', 'flax', 'tensorflow', 'orbax'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO).returncode == 0
