"""Configs: installed ones are taken by name from any folder, and the top folder's files are their entry points."""

import dataclasses
import importlib
import itertools
import re
import subprocess
import sys

import pytest

from rig3r_jax.cli.command import OVERRIDES
from rig3r_jax.configs import base
from rig3r_jax.data.options import WindowOptions
from rig3r_jax.data.source import option_fields
from rig3r_jax.data.sources import SOURCES, source_class
from rig3r_jax.training.flags import config_names, read_config
from tests.conftest import REPO

PACKAGE = REPO / "rig3r_jax"
NAMES = config_names()


def test_every_installed_config_has_an_entry_point():
    assert sorted(path.stem for path in (REPO / "configs").glob("*.py")) == NAMES
    assert "demo" in NAMES and "base" not in NAMES
    with pytest.raises(ValueError, match="--config is 'base', which is neither a file nor"):
        read_config(["--config=base"])


@pytest.mark.parametrize("name", NAMES)
def test_name_and_entry_point_are_the_same_config(monkeypatch, tmp_path, name):
    config = importlib.import_module(f"rig3r_jax.configs.{name}").get_config()
    assert config.name == name
    monkeypatch.chdir(tmp_path)
    for flag in (f"--config={name}", f"--config={REPO}/configs/{name}.py"):
        assert read_config([flag]).to_dict() == config.to_dict()


def test_help_names_where_every_key_is_explained():
    """In the files that it names; those that a config is filled from have a comment for every key."""
    places = [PACKAGE / place for place in re.findall(r"\w+/\w+(?:\.py)?", OVERRIDES.split("In rig3r_jax,")[1])]
    assert len(places) == 4
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    text = "\n".join(file.read_text() for file in files)
    config = base.get_config()
    options = {key for name in SOURCES for key in option_fields(source_class(name))}
    for key in {*config.sampling, *dataclasses.asdict(WindowOptions()), *options}:
        assert re.search(rf"^    {key}: .* = .*", text, re.MULTILINE), key
    for section in set(config) - {"sampling"}:
        assert re.search(rf"\b{section} = ", text), section
    lines = PACKAGE.joinpath("data/options.py").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        assert "#" in line or above.startswith("    #") or not re.match(r"    \w+: .* = ", line), line


def test_configs_load_no_jax():
    modules = ", ".join(f"rig3r_jax.configs.{name}" for name in ("base", *NAMES))
    code = f"import sys, {modules}; sys.exit(bool({{'jax', 'flax', 'tensorflow', 'orbax'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO).returncode == 0
