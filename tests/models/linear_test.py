"""FP8 products of the blocks' linear layers: what is multiplied, how near it comes, and what stays as it is."""

import collections

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rig3r_jax.models.layers import Block, BlockOptions
from rig3r_jax.models.linear import PRODUCTS, fp8_product
from rig3r_jax.models.rig3r import build
from rig3r_jax.training.rig3r.setup import abstract_params, smallest_views

WIDTH = 64
DIMENSIONS = (((1,), (0,)), ((), ()))  # of a matrix product
E4M3, E5M2 = "float8_e4m3fn", "float8_e5m2"


def block(product: str, dtype=jnp.float32) -> Block:
    return Block(BlockOptions(4, product=PRODUCTS[product], dtype=dtype))


def multiplied(function, *arguments) -> collections.Counter:
    """(types of both operands, type of the result) of every product without batch axes that a function traces."""
    found: collections.Counter = collections.Counter()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general" and not equation.params["dimension_numbers"][1][0]:
                left, right = (str(operand.aval.dtype) for operand in equation.invars)
                found[*sorted((left, right)), str(equation.outvars[0].aval.dtype)] += 1
            for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_multiplies_e4m3_forward_and_e5m2_with_e4m3_backward(dtype):
    model, x = block("fp8", jnp.dtype(dtype)), jnp.zeros((1, 8, WIDTH), dtype)
    params = model.init(jax.random.key(0), x)
    assert multiplied(model.apply, params, x) == {(E4M3, E4M3, dtype): 4}
    gradient = jax.grad(lambda p, x: model.apply(p, x).astype(jnp.float32).sum(), argnums=(0, 1))
    assert multiplied(gradient, params, x) == {(E4M3, E4M3, dtype): 4, (E4M3, E5M2, dtype): 8}


def test_all_blocks_take_it_and_nothing_else_does():
    plain, fp8 = (build(variant="tiny", point_head="linear", dtype="bfloat16", linear=name) for name in PRODUCTS)
    params, views = abstract_params(plain), smallest_views(plain)
    jax.tree.map(lambda a, b: pytest.fail() if a != b else None, abstract_params(fp8), params)  # checkpoints fit both
    before, after = (
        multiplied(lambda p, v, model=model: model.apply({"params": p}, v), params, views) for model in (plain, fp8)
    )
    blocks = 4 * 4  # layers of one block, in four loops over layers
    assert after[E4M3, E4M3, "bfloat16"] == blocks
    assert before - after == {("bfloat16", "bfloat16", "bfloat16"): blocks} and before.total() == after.total()


def test_numbers_are_those_of_arrays_rounded_by_their_largest():
    rng = np.random.default_rng(0)
    x, kernel, gradient = (rng.normal(size=size).astype(np.float32) for size in ((6, 32), (32, 16), (6, 16)))

    def rounded(array, kind, largest):
        scale = np.float32(np.abs(array).max() / largest)
        return (array / scale).astype(kind).astype(np.float32) * scale

    x_8, kernel_8 = (rounded(array, ml_dtypes.float8_e4m3fn, 448) for array in (x, kernel))
    gradient_8 = rounded(1e-6 * gradient, ml_dtypes.float8_e5m2, 57344)
    out, pull = jax.vjp(lambda x, k: fp8_product(x, k, DIMENSIONS), jnp.asarray(x), jnp.asarray(kernel))
    of_x, of_kernel = pull(jnp.asarray(1e-6 * gradient))
    np.testing.assert_allclose(out, x_8 @ kernel_8, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_x, gradient_8 @ kernel_8.T, rtol=1e-4, atol=1e-11)
    np.testing.assert_allclose(of_kernel, x_8.T @ gradient_8, rtol=1e-4, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_and_its_gradients_come_near_those_in_float32(dtype):
    x, weight = jax.random.normal(jax.random.key(1), (2, 2, 40, WIDTH))

    def run(product, dtype):
        model = block(product, dtype)
        params = model.init(jax.random.key(0), x)

        def loss(params, x):
            change = model.apply(params, x.astype(dtype)).astype(jnp.float32) - x
            return (change * weight).mean(), change

        (_, change), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x)
        return {"change": change, "gradients": gradients}

    expected, found = run("plain", jnp.float32), run("fp8", jnp.dtype(dtype))
    errors = jax.tree.map(lambda a, b: jnp.linalg.norm(a - b) / jnp.linalg.norm(b), found, expected)
    assert 0.02 < errors["change"] < 0.08  # e4m3 has 3 bits after the first: steps of 1/16 to 1/8
    assert max(jax.tree.leaves(errors["gradients"])) < 0.2  # e5m2 has 2
    assert np.median(jax.tree.leaves(errors["gradients"])) < 0.1


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_does_not_pass_for_a_number(bad):
    ones, kernel = jnp.ones((4, 16)), jnp.ones((16, 8))
    assert np.isnan(fp8_product(ones.at[0, 0].set(bad), kernel, DIMENSIONS)).all()
    pull = jax.vjp(lambda x, k: fp8_product(x, k, DIMENSIONS), ones, kernel)[1]
    assert all(np.isnan(of).all() for of in pull(jnp.ones((4, 8)).at[0, 0].set(bad)))


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-32])
def test_arrays_of_nothing_give_zeros(size):
    out, pull = jax.vjp(lambda x, k: fp8_product(x, k, DIMENSIONS), jnp.full((4, 16), size), jnp.ones((16, 8)))
    assert not out.any() and not any(of.any() for of in pull(jnp.full((4, 8), size)))


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="model.linear is 'fp4'; it must be one of plain, fp8"):
        build(variant="tiny", linear="fp4")
