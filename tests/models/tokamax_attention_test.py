"""Attention by tokamax: what its kernels are given and keep, with stand-ins that compute on a CPU."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models import attention
from rig3r_jax.models.attention import dense_attention, select_attention
from rig3r_jax.models.layers import BlockOptions, Blocks
from rig3r_jax.models.remat import REMAT_POLICIES, kept_bytes, repeats_attention
from rig3r_jax.models.tokamax_attention import tokamax_attention

TOKENS, WIDTH, HEADS, DEPTH = 40, 16, 2, 3
_MODULE = "tokamax._src.ops.attention.api"


def fused_forward(q, k, v):
    """The output, and of each row of logits the maximum and the sum of exponentials."""
    logits = np.einsum("bnkd,bmkd->bknm", q, k) * q.shape[-1] ** -0.5
    largest = logits.max(axis=-1)
    exponentials = np.exp(logits - largest[..., None])
    total = exponentials.sum(axis=-1)
    return np.einsum("bknm,bmkd->bnkd", exponentials / total[..., None], v), (largest, total)


def fused_backward(statistics, out, cotangent, q, k, v):
    """By the statistics alone: no softmax is taken again."""
    scale = q.shape[-1] ** -0.5
    largest, total = (np.asarray(x)[..., None] for x in statistics)
    weights = np.exp(np.einsum("bnkd,bmkd->bknm", q, k) * scale - largest) / total
    inner = np.einsum("bnkd,bnkd->bkn", cotangent, out)[..., None]
    slopes = weights * (np.einsum("bnkd,bmkd->bknm", cotangent, v) - inner) * scale
    dq, dk = np.einsum("bknm,bmkd->bnkd", slopes, k), np.einsum("bknm,bnkd->bmkd", slopes, q)
    return {"q": dq, "k": dk, "v": np.einsum("bknm,bnkd->bmkd", weights, cotangent)}


class _Kernels:
    """An operation of tokamax, as far as it is used; a program's text has the names of what it calls."""

    def __call__(self, q, k, v, *, return_residuals=False):
        statistic = jax.ShapeDtypeStruct((q.shape[0], q.shape[2], q.shape[1]), jnp.float32)
        out, statistics = jax.pure_callback(fused_forward, (_like(q), (statistic, statistic)), q, k, v)
        return (out, statistics) if return_residuals else out

    def bind(self, q, k, v):
        return types.SimpleNamespace(kwargs={"logits_scale": q.shape[-1] ** -0.5, "return_residuals": False})

    def vjp(self, statistics, out, cotangent, q, k, v, *, logits_scale):
        assert logits_scale == q.shape[-1] ** -0.5
        gradients = {"q": _like(q), "k": _like(k), "v": _like(v)}
        return {**jax.pure_callback(fused_backward, gradients, statistics, out, cotangent, q, k, v), "bias": None}


def _like(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


@pytest.fixture(autouse=True)
def standin(monkeypatch):
    monkeypatch.setattr(attention, "lack_of", lambda packages: "")
    names = _MODULE.split(".")
    for count in range(1, len(names) + 1):
        name = ".".join(names[:count])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[_MODULE].IMPLEMENTATIONS = {"mosaic_gpu": _Kernels()}


def test_outputs_and_gradients_are_those_of_dense_attention():
    arrays = jax.random.normal(jax.random.key(0), (4, 2, TOKENS, HEADS, 8))

    def run(attend):
        out, pullback = jax.vjp(attend, *arrays[:3])
        return out, *pullback(arrays[3])

    for found, expected in zip(run(tokamax_attention), run(dense_attention), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("policy", REMAT_POLICIES)
def test_a_policy_keeps_output_and_statistics_once_and_repeats_no_kernel(policy):
    attend = select_attention("tokamax", backend="gpu", dtype=jnp.bfloat16)
    model = Blocks(DEPTH, BlockOptions(HEADS, attend=attend, remat=policy, dtype=jnp.bfloat16))
    x = jax.ShapeDtypeStruct((1, TOKENS, WIDTH), jnp.bfloat16)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    residuals = jax.tree.leaves(jax.eval_shape(lambda p, x: jax.vjp(model.apply, p, x)[1], params, x))
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in residuals if TOKENS in leaf.shape) / DEPTH / TOKENS
    second_statistic = 0 if policy == "full" else 4 * HEADS
    assert kept == kept_bytes(policy, WIDTH, HEADS) + second_statistic
    gradient = jax.grad(lambda p, x: model.apply(p, x).astype(jnp.float32).sum(), argnums=(0, 1))
    program = str(jax.make_jaxpr(gradient)(params, x))  # one scan over layers forward, one backward
    assert program.count("function fused_forward") == 1 + repeats_attention(policy)
    assert program.count("function fused_backward") == 1
