"""`rig3r bench train`: the table, the JSON, the parts, and what it refuses."""

import argparse
import json
from unittest import mock

import jax
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.parts import Parts, Shapes
from rig3r_jax.benchmarks.result import result_name
from rig3r_jax.benchmarks.setting import host_batch, out_of_memory, read_setting
from rig3r_jax.benchmarks.train import check_equal_work
from rig3r_jax.training.rig3r.flops import forward_parts
from rig3r_jax.training.rig3r.setup import build_model
from tests.conftest import REPO

pytest.importorskip("torch")

DEMO = f"--config={REPO}/configs/demo.py"
MODEL = ["--config.model.remat=attention", "--config.model.unroll=False", "--config.model.rays_per_patch=2"]
TINY = [DEMO, *MODEL, "--size", "32", "--views", "2", "--batch", "2"]
MODULES = (
    "patch embedding", "encoder linear layers", "encoder attention", "rig embedding", "decoder linear layers",
    "decoder attention", "linear point head", "ray heads", "ground truth + loss",
)  # fmt: skip


# Of what takes the time of a step and of its parts.
timed = pytest.mark.sweep(
    "rig3r_jax/benchmarks", "rig3r_jax/losses", "rig3r_jax/models", "rig3r_jax/parity", "rig3r_jax/training"
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The JSON of one run with the table of the parts."""
    out = tmp_path_factory.mktemp("results")
    flags = ["--repeats", "2", "--warmup", "1", "--breakdown", "--peer", "torch", "--out", str(out), "--name", "tiny"]
    with mock.patch("torch.compile", lambda function, **_: function):  # no compiler sees through the tests' type checks
        assert cli.main(["bench", "train", *TINY, *flags]) == 0
    return json.loads((out / "tiny.json").read_text())


@timed
def test_one_row_tells_the_step(told):
    row, _ = told["rows"]
    assert row["images/s"] == pytest.approx(4 / row["s/step"])
    assert row["MFU %"] == pytest.approx(100 * row["model TFLOP"] / row["s/step"] / row["peak TFLOP/s"])
    assert row["compile s"] > 0 and row["peak GB"] > 0
    assert told["settings"]["batch"] == 2 and told["settings"]["views"] == 2 and told["settings"]["size"] == 32
    assert told["settings"]["model"]["remat"] == "attention"


@timed
def test_the_twin_stands_beside_ours(told):
    """The command itself has refused unequal first losses."""
    ours, theirs = told["rows"]
    assert "rig3r_jax" in ours["step"] and "SDPA default" in theirs["step"]
    assert ours["peer / ours"] == 1 and theirs["peer / ours"] == pytest.approx(theirs["s/step"] / ours["s/step"])
    assert theirs["model TFLOP"] == ours["model TFLOP"] and theirs["peak GB"] is None


@timed
def test_parts_and_rest_make_the_step(told):
    rows = {row["part"]: row for row in told["breakdown"]}
    assert list(rows)[: len(MODULES)] == list(MODULES)
    assert list(rows)[len(MODULES) :] == ["recomputation (remat=attention)", "optimizer", "rest", "step"]
    assert rows["step"]["ms/step"] == pytest.approx(1e3 * told["rows"][0]["s/step"])
    parts = [row["ms/step"] for name, row in rows.items() if name != "step"]
    assert sum(parts) == pytest.approx(rows["step"]["ms/step"])
    assert sum(row["share %"] for row in rows.values()) == pytest.approx(200)
    for name in (*MODULES, "optimizer"):
        row = rows[name]
        assert row["rate"] > 0 and row["ceiling"] > 0 and row["ceiling from"]
        assert row["of ceiling %"] == pytest.approx(100 * row["rate"] / row["ceiling"])
        assert (row.get("TFLOP") is None) != (row["GB"] is None)
    assert rows["encoder attention"]["calls"] == 2 and rows["decoder attention"]["calls"] == 4


@timed
def test_counted_work_of_the_parts_is_that_of_the_model(told):
    """Three times the forward pass; attention 3.5 times and the patch embedding, whose input is data, twice."""
    counted = {row["part"]: row["TFLOP"] for row in told["breakdown"] if row.get("TFLOP")}
    total = sum(
        value * 3 / {"attention": 3.5, "embedding": 2.0}.get(name.split()[-1], 3) for name, value in counted.items()
    )
    assert total == pytest.approx(told["rows"][0]["model TFLOP"], rel=5e-3)  # no rig embedding


def test_a_dpt_head_is_timed_as_it_runs():
    flags = ["--config.model.point_head=dpt", "--config.model.dpt_features=4", "--config.model.dpt_last=4"]
    setting = read_setting(_options(batch=1, views=2, size=32), [DEMO, *MODEL, *flags], devices=1)
    batch = host_batch(setting)
    model = build_model(setting.config, backend="cpu")
    abstract = jax.eval_shape(model.init, jax.random.key(0), batch.views)["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    part = Parts(model, setting, params, batch).point_head()
    points, confidence = jax.eval_shape(part.function, part.differentiated, part.fixed)
    assert points.shape == (1, 2, 32, 32, 3) and confidence.shape == (1, 2, 32, 32)
    assert part.operations == forward_parts(model, 2, 32, 32)["point_head"] > 0
    assert part.ceiling()[1] == "3x3 convolution"


def _options(**given):
    return argparse.Namespace(**{"batch": None, "views": None, "size": None, "name": None, **given})


def test_a_mesh_of_other_devices_becomes_one_sample_on_each_device():
    full = read_setting(_options(), [f"--config={REPO}/configs/full.py"], devices=8)
    assert full.rows == full.devices == 8 and full.config.mesh.to_dict() == {"data": 8, "fsdp": 1, "frames": 1}
    assert any("wants 128 devices, here are 8" in note for note in full.notes)
    demo = read_setting(_options(views=4), [DEMO], devices=1)
    assert demo.rows == 8 and demo.views == 4 and demo.notes == ()
    cut = read_setting(_options(batch=4, views=6), [DEMO, "--config.mesh.data=2", "--config.mesh.frames=2"], devices=4)
    assert cut.notes == () and Shapes.of(cut) == Shapes(rows=2, views=3, all_views=6, size=64)


@pytest.mark.parametrize(
    ("given", "flags", "message"),
    [
        ({"size": 40}, [], "size is 40; it must be a multiple of model.patch=16"),
        ({"batch": 3}, ["--config.train.accumulate=2"], "train.batch_size=3 must be a multiple"),
        ({}, ["--config.task=uncertainty"], "task is 'uncertainty'"),
    ],
)
def test_what_cannot_be_timed_is_told(given, flags, message):
    with pytest.raises(ValueError, match=message):
        read_setting(_options(**given), [DEMO, *flags], devices=1)


def test_result_files_are_named_by_kind_config_and_device():
    kind = "cpu" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind.lower().replace(" ", "-")
    assert result_name("train", _options(), "demo") == f"train-demo-{kind}"
    assert result_name("train", _options(name="mine"), "demo") == "mine"


def test_unequal_losses_are_no_contest():
    check_equal_work({"ours": 2.0, "theirs": 2.001}, "float32")
    check_equal_work({"ours": 2.0, "theirs": 2.03}, "bfloat16")
    check_equal_work({}, "float32")
    for loss in (2.01, float("nan")):
        with pytest.raises(ValueError, match="ours 2, theirs .* different work is not compared"):
            check_equal_work({"ours": 2.0, "theirs": loss}, "float32")


def test_running_out_of_memory_is_known_by_its_messages():
    assert out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"))
    assert not out_of_memory(ValueError("shapes do not match"))
