"""Counting operations and merging metrics."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.losses.mean import Mean
from rig3r_jax.models.rig3r import build
from rig3r_jax.training.metrics import MetricsWriter, merge_window, read_metrics
from rig3r_jax.training.peak import peak_flops
from rig3r_jax.training.rig3r.flops import forward_flops, train_flops
from tests.batches import random_batch


def test_operations_of_the_papers_shape():
    model = build(variant="large", backend="cpu")
    assert forward_flops(model, 24, 512, 512) == pytest.approx(98e12, rel=0.02)  # counted by hand elsewhere
    assert train_flops(model, 24, 512, 512) == 3 * forward_flops(model, 24, 512, 512)


@pytest.mark.parametrize("point_head", ["linear", "dpt"])
def test_operations_agree_with_the_compiler(point_head):
    fields = {"width": 64, "heads": 4, "encoder_depth": 1, "decoder_depth": 4, "unroll": True, "remat": "none"}
    model = build(variant="tiny", point_head=point_head, points_per_patch=4, attention="dense", dpt_chunk=2, **fields)
    views = jax.tree.map(jnp.asarray, random_batch(batch=1, views=2, size=64).views)
    params = jax.eval_shape(model.init, jax.random.key(0), views)
    counted = jax.jit(model.apply).lower(params, views).compile().cost_analysis()["flops"]
    assert forward_flops(model, 2, 64, 64) == pytest.approx(counted, rel=0.15)


def test_peak_is_measured_where_no_data_sheet_is_known():
    assert 1e8 < peak_flops(jax.devices()[0]) < 1e14


def test_window_is_a_mean_over_things_not_of_means():
    window = [{"a": Mean(np.float32(6), np.float32(3))}, {"a": Mean(np.float32(10), np.float32(1))}]
    assert merge_window(window) == {"a": 4.0}
    counters = [{"count/skipped": Mean(np.float32(n), np.float32(1))} for n in (1, 2, 5)]
    assert merge_window(counters) == {"count/skipped": 5.0}
    assert np.isnan(merge_window([{"a": Mean(np.float32(0), np.float32(0))}])["a"])


def test_resumed_metrics_have_no_row_twice(tmp_path):
    writer = MetricsWriter(tmp_path, events="tensorboard")
    for step in (10, 20, 30):
        writer.write(step, {"loss/total": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "loss/to')  # cut short by a kill
    writer = MetricsWriter(tmp_path, events="tensorboard", resume_step=20)
    writer.write(30, {"loss/total": float("nan")})
    writer.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows == [
        {"step": 10, "loss/total": 10.0},
        {"step": 20, "loss/total": 20.0},
        {"step": 30, "loss/total": None},
    ]
    lines = [json.dumps(rows[0]), "nonsense", json.dumps(rows[1])]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="metrics.jsonl:2"):
        read_metrics(tmp_path / "metrics.jsonl")
