"""Parts of the model against independent formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.attention import chunked_attention, dense_attention
from rig3r_jax.models.heads import points_and_confidence
from rig3r_jax.models.positions import grid_positions, grid_sincos, rotate_by_position, sincos
from rig3r_jax.models.upsample import upsample_aligned
from rig3r_jax.models.vit import patchify, unpatchify


def test_attention_is_softmax_of_products():
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 5, 4, 8))
    logits = np.einsum("bnkd,bmkd->bknm", q, k) / np.sqrt(8)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.einsum("bknm,bmkd->bnkd", weights, v)
    np.testing.assert_allclose(dense_attention(*map(jnp.float32, (q, k, v))), expected, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 100])
def test_chunked_attention_is_dense_attention(chunk):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 7, 2, 4))

    def run(attend):
        return jax.value_and_grad(lambda *x: jnp.sin(attend(*x)).sum(), argnums=(0, 1, 2))(q, k, v)

    a, b = run(dense_attention), run(lambda *x: chunked_attention(*x, chunk=chunk))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


def test_rotary_products_depend_on_relative_positions_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 12, 2, 16))
    positions = grid_positions(3, 4)

    def products(shift):
        turned = [rotate_by_position(x, positions + shift) for x in (q, k)]
        return jnp.einsum("bnkd,bmkd->bknm", *turned)

    np.testing.assert_allclose(products(0), products(np.array([5, 9])), atol=1e-4)
    assert np.abs(products(0) - jnp.einsum("bnkd,bmkd->bknm", q, k)).max() > 0.1


def test_golden_rotary_embedding(shared):
    golden = np.load(shared / "golden/croco_tiny/rope.npz")
    for case, base in {
        "hd16_3x4": 100.0,
        "hd64_32x32": 100.0,
        "hd64_24x32": 100.0,
        "hd32_7x5_f10000": 10_000.0,
    }.items():
        tokens = jnp.asarray(golden[f"{case}/tokens"].swapaxes(1, 2))
        ours = rotate_by_position(tokens, golden[f"{case}/pos_yx"][0], base)
        np.testing.assert_allclose(np.asarray(ours).swapaxes(1, 2), golden[f"{case}/out"], atol=2e-5, rtol=1e-4)


def test_codes_tell_positions_apart():
    code = np.asarray(sincos(jnp.arange(200.0), 64))
    distances = np.linalg.norm(code[:, None] - code[None], axis=-1)
    assert distances[~np.eye(200, dtype=bool)].min() > 0.5
    grid = np.asarray(grid_sincos(5, 7, 64)).reshape(5, 7, 64)
    assert np.ptp(grid[..., :32], axis=0).max() < 1e-6 and np.ptp(grid[..., 32:], axis=1).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_unpatchify_inverts_patchify(channels):
    images = jax.random.normal(jax.random.key(0), (2, 8, 12, channels))
    np.testing.assert_array_equal(unpatchify(patchify(images, 4), 2, 3, channels), images)


def test_golden_upsampling_with_aligned_corners(shared):
    golden = np.load(shared / "golden/dpt_tiny/upsample.npz")
    x, expected = golden["x"], golden["up2_ac_true"]
    ours = upsample_aligned(jnp.asarray(x.transpose(0, 2, 3, 1)), *expected.shape[2:])
    np.testing.assert_allclose(np.asarray(ours).transpose(0, 3, 1, 2), expected, atol=1e-5)


def test_golden_points_and_confidence(shared):
    golden = np.load(shared / "golden/dpt_tiny/postprocess.npz")
    raw = jnp.asarray(golden["raw"].transpose(0, 2, 3, 1))
    points, confidence = points_and_confidence(raw)
    np.testing.assert_allclose(points, golden["exp/pts3d"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(confidence, golden["conf_exp_1_inf"], rtol=1e-5)
    gradient = jax.grad(lambda x: points_and_confidence(x)[0].sum())(jnp.zeros((1, 1, 1, 4)))
    np.testing.assert_allclose(gradient[..., :3], 1.0)  # the identity to first order at the origin, not NaN
