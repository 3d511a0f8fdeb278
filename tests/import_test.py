"""Importing is quick and touches neither TensorFlow nor PyTorch nor a device."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = REPO / "rig3r_jax"

HEAVY = {"tensorflow", "tensorboard", "torch", "clu", "grain", "tensorflow_datasets", "array_record"}

# Rooms and modules that inference and benchmarks never need, and that may import something heavy.
MAY_BE_HEAVY = (
    "data.records",
    "data.build",
    "data.build_groups",
    "data.build_workers",
    "data.build_finish",
    "data.record_files",
    "data.record_source",
    "data.pipeline",
    "data.window_stream",
    "weights",
    "training",
    "uncertainty",
    "parity",
    "benchmarks",
    "studies",
)


# Modules of these that whoever only predicts imports: light all the same.
LIGHT = ("training.rig3r.params", "training.rig3r.setup")


def fresh_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return done.stdout


def test_package_imports_at_once():
    code = "import time; t = time.perf_counter(); import rig3r_jax; print(time.perf_counter() - t)"
    assert min(float(fresh_python(code)) for _ in range(3)) < 1.5


def test_package_imports_nothing_heavy():
    loaded = set(json.loads(fresh_python("import json, sys, rig3r_jax; print(json.dumps(sorted(sys.modules)))")))
    assert "rig3r_jax" in loaded
    assert not loaded & (HEAVY | {"jax", "flax", "numpy", "cv2"})


def light_modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name in LIGHT or not any(name == place or name.startswith(place + ".") for place in MAY_BE_HEAVY):
            names.append(f"rig3r_jax.{name}".rstrip("."))
    return names


def test_modules_load_no_tensorflow_and_start_no_device():
    """A module-level array would start the devices, and a command that only prints its help would wait for them."""
    code = f"""
import importlib, json, sys
for name in {light_modules()!r}:
    importlib.import_module(name)
    from jax._src import xla_bridge
    if xla_bridge.backends_are_initialized():
        sys.exit(name + " starts a device while it is imported")
print(json.dumps(sorted(sys.modules)))
"""
    loaded = set(json.loads(fresh_python(code)))
    assert "rig3r_jax.schema" in loaded
    assert not loaded & HEAVY
