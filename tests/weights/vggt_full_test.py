"""The public VGGT at full size: random numbers under its real keys and shapes, converted, loaded and run."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from rig3r_jax.weights.convert import load_params
from rig3r_jax.weights.engine import flatten
from rig3r_jax.weights.files import write_tensors
from rig3r_jax.weights.vggt import build, parameter_shapes

pytestmark = [pytest.mark.slow, pytest.mark.sweep("rig3r_jax/geometry", "rig3r_jax/models", "rig3r_jax/weights")]

DISK = 12 * 2**30  # two files of 4.8 GB
PEAK = 12 * 2**30  # memory of the processes that convert and run the model; pages of mapped files count too
CONVERT = """
import json, resource, sys
from rig3r_jax.weights.convert import convert_file
report = convert_file("vggt", sys.argv[1], sys.argv[2])
print(json.dumps({"report": report, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""
RUN = """
import json, resource, sys
import jax, numpy as np
from rig3r_jax.weights.vggt import load
model, params = load(sys.argv[1], attention="chunked")
images = np.random.default_rng(0).integers(0, 256, (1, 2, 224, 224, 3), np.uint8)
out = jax.jit(model.apply)({"params": params}, images)
leaves = jax.tree_util.tree_leaves_with_path(out)
print(json.dumps({
    "shapes": {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves},
    "finite": all(bool(np.isfinite(leaf).all()) for _, leaf in leaves),
    "parameters": len(jax.tree.leaves(params)),
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def _random_tensors(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Views of one pool of small random numbers: distinct enough, and no gigabytes of them to draw."""
    pool = np.random.default_rng(0).normal(0, 0.02, 2**25).astype(np.float32)
    tensors = {}
    for index, (name, shape) in enumerate(shapes.items()):
        size = int(np.prod(shape))
        start = 977 * index
        assert start + size <= pool.size
        tensors[name] = pool[start : start + size].reshape(shape)
    return tensors


def _run(script: str, *paths: pathlib.Path) -> dict:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", script, *paths], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(f"peak memory {result['peak'] / 2**30:.1f} GB")
    assert result["peak"] < PEAK
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("vggt")
    free = shutil.disk_usage(path).free
    assert free > DISK, f"{free / 2**30:.1f} GB are free at {path}, {DISK / 2**30:.0f} are needed"
    yield path
    shutil.rmtree(path)


def test_golden_full_size_model_converts_totally_and_runs_in_12_gb(shared, folder: pathlib.Path):
    shapes = json.loads((shared / "golden/vggt_1b_state_dict_shapes.json").read_text())
    public = {name: shape for name, shape in shapes.items() if "pose_log_var_branch" not in name}
    assert len(shapes) == 1801 and len(public) == 1797
    tensors = _random_tensors(public)
    source, converted = folder / "model.safetensors", folder / "vggt.safetensors"
    write_tensors(source, tensors)

    report = _run(CONVERT, source, converted)["report"]
    assert "1797 read" in report and "initialised, not in the file: camera_head/refinement/pose_log_var" in report
    source.unlink()
    params, metadata = load_params(converted)
    ours = {path: leaf.shape for path, leaf in flatten(params).items()}
    assert ours == {
        path: leaf.shape for path, leaf in flatten(parameter_shapes(build(json.loads(metadata["fields"])))).items()
    }
    layer = params["aggregator"]["stage1"]["global"]["attn"]["qkv"]["kernel"][2]  # stage 1 begins with layer 5
    np.testing.assert_array_equal(layer, tensors["aggregator.global_blocks.7.attn.qkv.weight"].T)
    del params, layer, tensors

    result = _run(RUN, converted)
    assert result["shapes"] == {
        ".camera.encoding": [4, 1, 2, 9],
        ".camera.features": [4, 1, 2, 2048],
        ".camera.log_variance": [4, 1, 2, 6],
        ".depth": [1, 2, 224, 224],
        ".depth_confidence": [1, 2, 224, 224],
        ".points_world": [1, 2, 224, 224, 3],
        ".points_confidence": [1, 2, 224, 224],
    }
    assert result["finite"] and result["parameters"] == len(ours)
