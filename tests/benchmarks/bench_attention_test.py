"""`rig3r bench attention`: every implementation is timed or says why not."""

import json

import jax
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.attention import parse_shape, random_arrays, reference
from rig3r_jax.benchmarks.ceilings import PUBLISHED, attention_rate, convolution_rate, copy_rate, matmul_rate
from rig3r_jax.benchmarks.timing import Limit
from rig3r_jax.models.attention import IMPLEMENTATIONS

pytest.importorskip("torch")


def test_every_implementation_has_a_row_at_every_shape(tmp_path):
    flags = ["--shape", "2,32,2,16", "--shape", "1,300,2,16", "--dtype", "float32", "--repeats", "2", "--warmup", "1"]
    assert cli.main(["bench", "attention", *flags, "--peer", "torch", "--out", str(tmp_path), "--name", "a"]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    names = [*IMPLEMENTATIONS, "torch SDPA default"]
    assert [row["attention"] for row in rows] == 2 * names
    for row in rows:
        if row["attention"] == "cudnn" and jax.default_backend() == "cpu":
            assert row["forward ms"] is None and row["remark"].startswith("does not run: ")
        elif row["forward ms"]:
            assert row["error"] < 1e-5
            b, n, k, d = map(int, row["b,n,k,d"].split(","))
            assert row["forward TFLOP/s"] == pytest.approx(4 * b * n * n * k * d / row["forward ms"] / 1e9)
            assert row["both TFLOP/s"] == pytest.approx(14 * b * n * n * k * d / row["both ms"] / 1e9)
    assert {row["attention"] for row in rows if row["forward ms"]} >= {"dense", "chunked", "torch SDPA default"}


def test_what_is_late_is_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Limit, "over", lambda self: True)
    flags = ["--shape", "1,8,1,8", "--limit-seconds", "1", "--out", str(tmp_path), "--name", "a"]
    assert cli.main(["bench", "attention", *flags]) == 1
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["attention"] for row in rows] == [*IMPLEMENTATIONS]
    assert all(row["forward ms"] is None and row["remark"] == Limit.LATE for row in rows)


def test_the_reference_is_softmax_attention_of_the_first_queries():
    q, k, v, _ = arrays = random_arrays((1, 300, 2, 8))
    logits = np.einsum("bnkd,bmkd->bknm", q[:, :256], k, dtype=np.float64) / 8**0.5
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    expected = np.einsum("bknm,bmkd->bnkd", weights / weights.sum(axis=-1, keepdims=True), v)
    np.testing.assert_allclose(reference(arrays, "float32"), expected, atol=2e-6)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "0,1,1,1"])
def test_shapes_that_are_none_are_told(text, capsys):
    with pytest.raises(ValueError, match=f"shape is '{text}'"):
        parse_shape(text)
    assert cli.main(["bench", "attention", "--shape", text]) == 2
    assert "shape is" in capsys.readouterr().err


def test_ceilings_are_rates_of_this_device():
    assert 1e7 < matmul_rate(((64, 64, 64, "float32"), (32, 64, 128, "float32"))) < 1e16
    assert 1e7 < convolution_rate(1, 16, 8, "float32") < 1e16
    assert 1e7 < copy_rate() < 1e14
    rate, source = attention_rate(1, 64, 64, 2, 64, "float32")
    assert 1e7 < rate < 1e16 and source == "q k^T and p v"


def test_published_rates_are_ordered_as_kernels_are():
    for rates in PUBLISHED.values():
        short, long = rates[1024], rates[16384]
        assert all(a < b for a, b in zip(short, long, strict=True))
        assert all(backward < forward for forward, backward in rates.values())


def test_on_a_hopper_gpu_the_published_rate_is_the_ceiling(monkeypatch):
    class Device:
        device_kind = "NVIDIA H100 80GB HBM3"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    rate, source = attention_rate(1, 24576, 24576, 16, 64, "bfloat16")
    assert source == "FlashAttention-3, 16384 tokens"
    assert rate == pytest.approx(3.5e12 / (1 / 497 + 2.5 / 474))
