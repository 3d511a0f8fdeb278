"""DINOv2: what positions, registers and sizes do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.dinov2 import DINOv2, GridPositions, patch_grid
from rig3r_jax.models.layers import BlockOptions

FIELDS = {"width": 24, "depth": 2, "block": BlockOptions(2), "patch": 4, "registers": 3, "position_grid": 3}


def _random(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), leaf.dtype), shapes)


@functools.cache
def _params():
    image = jax.ShapeDtypeStruct((1, 12, 12, 3), jnp.float32)
    return _random(jax.eval_shape(DINOv2(**FIELDS).init, jax.random.key(0), image))


_apply = jax.jit(DINOv2(**FIELDS).apply)


def _images(height: int, width: int):
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, height, width, 3)), jnp.float32)


def test_tokens_of_the_patches_of_any_size():
    for height, width in ((8, 20), (4, 4)):
        out = _apply(_params(), _images(height, width))
        assert out.shape == (2, height * width // 16, 24) and np.isfinite(out).all()


def test_positions_are_the_table_itself_only_on_the_grid_of_training():
    table = _random({"params": {"table": jax.ShapeDtypeStruct((10, 6), jnp.float32)}})
    module = GridPositions(6, 3)
    np.testing.assert_array_equal(module.apply(table, 3, 3), table["params"]["table"])
    wide = module.apply(table, 1, 9)  # as many patches, but none of them where it was
    np.testing.assert_array_equal(wide[0], table["params"]["table"][0])
    assert wide.shape == (10, 6) and np.abs(wide[1:] - table["params"]["table"][1:]).max() > 0.01


def test_patches_without_positions_commute():
    """Only positions tell patches apart: without them, permuted patches give permuted tokens."""
    params = jax.tree.map(lambda x: x, _params())
    images = _images(4, 12)
    swapped = jnp.concatenate([images[:, :, 8:], images[:, :, 4:8], images[:, :, :4]], axis=2)

    def difference(params):
        return float(np.abs(_apply(params, images)[:, ::-1] - _apply(params, swapped)).max())

    assert difference(params) > 0.01
    params["params"]["positions"]["table"] = jnp.zeros_like(params["params"]["positions"]["table"])
    assert difference(params) < 1e-5


def test_a_model_may_have_no_registers():
    image = jax.ShapeDtypeStruct((1, 12, 12, 3), jnp.float32)
    shapes = jax.eval_shape(DINOv2(**{**FIELDS, "registers": 0}).init, jax.random.key(0), image)["params"]
    assert "register_tokens" not in shapes and "cls_token" in shapes


@pytest.mark.parametrize(
    "size, message", [((30, 28), "height is 30"), ((28, 13), "width is 13"), ((28, 0), "width is 0")]
)
def test_a_side_that_the_patch_does_not_divide_is_named(size, message: str):
    with pytest.raises(ValueError, match=f"{message}: it must be a multiple of 14; resize or crop to"):
        patch_grid(*size, 14)
