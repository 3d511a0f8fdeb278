"""The check of attention against float64 passes what is right and catches what is wrong."""

import pytest

from rig3r_jax.models.attention import IMPLEMENTATIONS, dense_attention
from rig3r_jax.parity.attention import compare_attention
from rig3r_jax.parity.compare import Comparison, Skipped

SHAPE = (1, 300, 2, 16)  # longer than one chunk of queries


def test_implementations_agree_with_float64():
    rows = compare_attention("cpu", [SHAPE])
    compared = [row for row in rows if isinstance(row, Comparison)]
    assert len(compared) == 2 * 3 * 4  # two implementations, three types, output and three gradients
    assert all(row.passed for row in compared)
    assert {row.name.split()[0] for row in rows if isinstance(row, Skipped)} == set(IMPLEMENTATIONS)


@pytest.mark.parametrize("wrong", [lambda q, k, v: dense_attention(q * 1.05, k, v), lambda q, k, v: v])
def test_a_wrong_attention_is_found(monkeypatch, wrong):
    monkeypatch.setitem(IMPLEMENTATIONS, "dense", wrong)
    rows = compare_attention("cpu", [SHAPE])
    outputs = [
        row for row in rows if isinstance(row, Comparison) and row.name.startswith("dense") and "out" in row.name
    ]
    assert outputs and not any(row.passed for row in outputs)
