"""Remat policies: the same gradients, and exactly the memory and the repeated products that their table promises."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as fused

from rig3r_jax.models.attention import select_attention
from rig3r_jax.models.layers import BlockOptions, Blocks
from rig3r_jax.models.linear import PRODUCTS
from rig3r_jax.models.remat import FUSED_KERNELS, REMAT_POLICIES, kept_bytes, repeated_linear, repeats_attention

TOKENS, WIDTH, HEADS, DEPTH = 808, 64, 4, 3  # more tokens than one chunk of queries, and no multiple of it
PADDED = 1024  # queries of whole chunks


@dataclasses.dataclass(frozen=True)
class Cost:
    """Per layer: bytes kept per token, and what one step runs: operations of products, calls of the fused kernel."""

    kept: float
    runs: dict[str, float]


def blocks(attention: str, policy: str, dtype=jnp.float32, **fields) -> Blocks:
    attend = select_attention(attention, backend="cpu", dtype=dtype)
    return Blocks(DEPTH, BlockOptions(HEADS, attend=attend, remat=policy, dtype=dtype, **fields))


def cost(model: Blocks) -> Cost:
    """What a step keeps and runs, from its traced program."""
    x = jax.ShapeDtypeStruct((1, TOKENS, WIDTH), model.options.dtype)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    residuals = jax.tree.leaves(jax.eval_shape(lambda p, x: jax.vjp(model.apply, p, x)[1], params, x))
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in residuals if TOKENS in leaf.shape)
    gradient = jax.grad(lambda p, x: model.apply(p, x).astype(jnp.float32).sum(), argnums=(0, 1))
    runs = collections.Counter()
    _count(jax.make_jaxpr(gradient)(params, x).jaxpr, 1, runs)
    return Cost(kept / DEPTH / TOKENS, {kind: total / DEPTH for kind, total in runs.items()})


def _count(jaxpr, times: int, runs: collections.Counter) -> None:
    """Adds what a traced program runs, scans as often as they are long."""
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name in FUSED_KERNELS:
            runs["fused"] += times
        elif name == "dot_general":
            (contracted, _), (batch, _) = parameters["dimension_numbers"]
            depth = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            runs["attention" if batch else "linear"] += (
                times * 2 * float(depth * np.prod(equation.outvars[0].aval.shape))
            )
        inner = times * parameters["length"] if name == "scan" else times
        for value in jax.tree.leaves(parameters, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            value = getattr(value, "jaxpr", value)
            if hasattr(value, "eqns"):
                _count(value, inner, runs)


@pytest.fixture
def traceable_cudnn(monkeypatch):
    """Lets the fused kernel be traced, not run, where there is no GPU."""
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91_000)
    monkeypatch.setattr(fused, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda capability: False)


@pytest.mark.parametrize("policy", REMAT_POLICIES)
def test_fused_kernel_runs_once_and_memory_is_the_tables(traceable_cudnn, policy):
    found = cost(blocks("cudnn", policy, jnp.bfloat16))
    assert found.kept == kept_bytes(policy, WIDTH, HEADS)
    assert found.runs["fused"] == 1 + repeats_attention(policy)
    assert repeats_attention(policy) == (policy == "full")


@pytest.mark.parametrize("policy", REMAT_POLICIES)
def test_repeated_products_are_the_tables(policy):
    found = cost(blocks("chunked", policy))
    forward = 24 * WIDTH**2 * TOKENS
    assert found.runs["linear"] == (3 + repeated_linear(policy)) * forward
    # Forward: two products. Backward: the weights of each chunk once more, then four. All but `full` stop there.
    product = 2 * PADDED * TOKENS * WIDTH
    assert found.runs["attention"] == (7 + 2 * repeats_attention(policy)) * product


@pytest.mark.parametrize("policy", REMAT_POLICIES)
def test_fp8_products_keep_and_repeat_what_the_others_do(policy):
    plain, fp8 = (cost(blocks("chunked", policy, jnp.bfloat16, product=product)) for product in PRODUCTS.values())
    assert fp8.runs == plain.runs
    # Without remat the inputs of the four layers are kept in 8 bits for 16.
    assert plain.kept - fp8.kept == (7 * WIDTH if policy == "none" else 0)


def test_costs_fall_as_memory_grows():
    names = ["full", "attention", "qkv", "dots", "none"]
    assert set(names) == set(REMAT_POLICIES)
    kept = [kept_bytes(name, 1024, 16) for name in names]
    repeated = [repeated_linear(name) + repeats_attention(name) for name in names]
    assert kept == sorted(kept) and repeated == sorted(repeated, reverse=True)


def test_gradients_are_those_without_remat():
    x = jax.random.normal(jax.random.key(1), (1, 40, 16))
    fields = {"qk_norm": True, "layer_scale": 0.1}  # whatever may lie between a product and what follows it
    params = blocks("dense", "none", **fields).init(jax.random.key(0), x)

    def gradients(policy):
        def loss(p, x):
            return jnp.sin(blocks("dense", policy, **fields).apply(p, x)).sum()

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    expected = gradients("none")
    for policy in [name for name in REMAT_POLICIES if name != "none"]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), gradients(policy), expected)
