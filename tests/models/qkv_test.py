"""q, k and v as three products for fused kernels and as parts of one elsewhere: the same numbers and parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.attention import chunked_attention, cudnn_attention, dense_attention, flash3_attention, is_fused
from rig3r_jax.models.layers import BlockOptions, Blocks, SelfAttention
from rig3r_jax.training.sharding import make_mesh, over_frames, over_rows, placed_on

WIDTH = 8
FUSED = functools.wraps(cudnn_attention)(lambda q, k, v: dense_attention(q, k, v))  # passes for a fused kernel


def tokens(dtype=jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, WIDTH)), dtype)


def randomised(model, x: jax.Array):
    """Parameters of which none is zero."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), x.dtype), model.init(jax.random.key(0), x)
    )


def test_fused_kernels_are_known_by_their_names_on_a_mesh_too():
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    fused = (cudnn_attention, flash3_attention, FUSED, over_rows(FUSED, mesh), over_frames(FUSED, mesh))
    assert all(map(is_fused, fused))
    assert not any(map(is_fused, (dense_attention, chunked_attention, functools.partial(chunked_attention, chunk=2))))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_three_products_are_one(qk_norm):
    with jax.enable_x64(True):
        x = tokens(jnp.float64)
        options = (
            BlockOptions(2, attend=attend, qk_norm=qk_norm, dtype=jnp.float64) for attend in (dense_attention, FUSED)
        )
        one, three = map(SelfAttention, options)
        params = randomised(one, x)
        assert jax.tree.map(jnp.shape, three.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, params)
        kernel, bias = (params["params"]["qkv"][name] for name in ("kernel", "bias"))
        outputs = [
            model.apply(params, x, capture_intermediates=True)[1]["intermediates"]["qkv"] for model in (one, three)
        ]
        for parts in outputs:
            np.testing.assert_allclose(
                np.concatenate(parts["__call__"][0], -1), x @ kernel + bias, rtol=1e-12, atol=1e-13
            )

        def value_and_gradients(model):
            return jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(model.apply(p, x))), argnums=(0, 1))(params, x)

        expected, found = map(value_and_gradients, (one, three))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


def test_a_fused_kernel_takes_products_of_its_own_from_a_kernel_that_is_whole_on_a_mesh():
    x = tokens()
    for attend, expected in ((dense_attention, [3 * WIDTH, WIDTH]), (FUSED, 4 * [WIDTH])):
        attention = SelfAttention(BlockOptions(2, attend=attend))
        params = attention.init(jax.random.key(0), x)
        with placed_on(make_mesh(1, 1, 1, jax.devices()[:1])):
            program = jax.make_jaxpr(attention.apply)(params, x)
        plain = [one for one in program.eqns if one.primitive.name == "dot_general" and one.outvars[0].aval.ndim == 3]
        assert [one.outvars[0].aval.shape[-1] for one in plain] == expected
        placed = [one.outvars[0].aval.shape for one in program.eqns if one.primitive.name == "sharding_constraint"]
        # Where a device holds a part of the kernel, thirds of it would be sent about.
        assert ((WIDTH, 3 * WIDTH) in placed) == (attend is FUSED)


@pytest.mark.parametrize("unroll", [False, True])
def test_blocks_of_16_bits_have_parameters_and_gradients_of_32(unroll):
    x = tokens(jnp.bfloat16)
    model = Blocks(1, BlockOptions(2, remat="dots", unroll=unroll, dtype=jnp.bfloat16))
    params = model.init(jax.random.key(0), x)
    gradients = jax.eval_shape(jax.grad(lambda p: model.apply(p, x).astype(jnp.float32).sum()), params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, gradients))} == {"float32"}
