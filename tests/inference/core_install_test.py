"""The core install is enough to reconstruct: nothing is imported that only an extra, or a package of one, brings."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement

HIDDEN = """
import importlib.machinery, json, sys
hidden, commands = map(json.loads, sys.argv[1:])
class Core(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Core
from rig3r_jax.cli import main
for words in commands:
    assert main(words) == 0, words
"""


def needed(requirements: list[str]) -> Iterator[str]:
    """Names of the distributions that these requirements bring, all the way down."""
    waiting, seen = [(Requirement(text), "") for text in requirements], set()
    while waiting:
        wanted, of_extra = waiting.pop()
        name = re.sub("[-_.]+", "-", wanted.name).lower()
        if wanted.marker and not wanted.marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *sorted(wanted.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(Requirement(text), extra) for text in importlib.metadata.requires(name) or ()]
        yield name


def beside_the_core(repo) -> list[str]:
    """Modules and packages of the installed distributions that the core install does not bring."""
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    core = {"rig3r-jax", *needed(project["dependencies"])}
    owners = importlib.metadata.packages_distributions()
    return [name for name, owned in owners.items() if not {re.sub("[-_.]+", "-", one).lower() for one in owned} & core]


def test_the_core_install_reconstructs_and_exports_networks(repo, rig3r_run, tmp_path):
    hidden = beside_the_core(repo)
    assert "pytest" in hidden and not {"jax", "numpy", "rig3r_jax"} & set(hidden)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), image)
    photos, network = str(tmp_path / "photos"), str(tmp_path / "network")
    commands = [
        ["try", f"{tmp_path}/tried"],
        ["reconstruct", photos, f"--model={rig3r_run}", f"--out={tmp_path}/scene"],
        ["export", "--stablehlo", str(rig3r_run), network, "--views=2"],
        ["reconstruct", photos, f"--model={network}", f"--out={tmp_path}/again", "--export=cameras"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, json.dumps(hidden), json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    assert "no scene.glb: needs trimesh" in done.stdout and (tmp_path / "again" / "cameras.json").exists()
    for file in ("scene/report.html", "found/rig.svg", "my_rig/drive_00/poses.txt"):
        assert f"{tmp_path}/tried/{file}"[:-9] in done.stdout and (tmp_path / "tried" / file).exists()
