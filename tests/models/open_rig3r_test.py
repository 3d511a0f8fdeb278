"""The public Open-Rig3R: its parts against PyTorch's own, its quirks, and its reference outputs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.layers import Block, BlockOptions
from rig3r_jax.models.open_rig3r import OpenRig3R, PointHead
from rig3r_jax.weights.files import read_tensors
from rig3r_jax.weights.open_rig3r import convert_tensors

torch = pytest.importorskip("torch")

TINY = {
    "image_size": 16, "patch": 8, "width": 12, "encoder_depth": 1, "encoder_heads": 2, "encoder_hidden": 18,
    "decoder_depth": 1, "decoder_heads": 3, "decoder_hidden": 20, "metadata_width": 12, "point_hidden": 6,
    "ray_hidden": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).uniform(size=(2, 3, 16, 16, 3)), jnp.float32)


@pytest.fixture(scope="module")
def params(images):
    """Random in every leaf, biases and scales too."""
    shapes = jax.eval_shape(OpenRig3R(**TINY).init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, jnp.float32), shapes)


@jax.jit
def run(params, images, cam2rig):
    return OpenRig3R(**TINY, dtype=images.dtype).apply({"params": params}, images, cam2rig)


def _rotations(*shape):
    return np.linalg.qr(np.random.default_rng(3).normal(size=(*shape, 3, 3)))[0]


def test_layer_is_a_pre_norm_transformer_layer():
    torch.manual_seed(0)
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", layer_norm_eps=1e-3, batch_first=True, norm_first=True
    )
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 5, 12)
    expected = theirs(x).detach().numpy()

    def linear(module):
        return {"kernel": module.weight.detach().numpy().T, "bias": module.bias.detach().numpy()}

    def norm(module):
        return {"scale": module.weight.detach().numpy(), "bias": module.bias.detach().numpy()}

    attention = theirs.self_attn
    qkv = {"kernel": attention.in_proj_weight.detach().numpy().T, "bias": attention.in_proj_bias.detach().numpy()}
    params = {
        "norm1": norm(theirs.norm1),
        "attn": {"qkv": qkv, "proj": linear(attention.out_proj)},
        "norm2": norm(theirs.norm2),
        "mlp": {"fc1": linear(theirs.linear1), "fc2": linear(theirs.linear2)},
    }
    ours = Block(BlockOptions(3, 20, epsilon=1e-3)).apply({"params": params}, jnp.asarray(x.numpy()))
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-5)


def test_point_head_has_eight_by_eight_pixels_per_patch():
    head = PointHead(6, jnp.float32)
    out, _ = head.init_with_output(jax.random.key(0), jnp.ones((2, 3, 5, 12)))
    assert out.shape == (2, 24, 40, 4)


def test_outputs_have_their_shapes(images, params):
    for cam2rig in (None, jnp.asarray(_rotations(2, 3).reshape(2, 9, 3), jnp.float32)):
        out = run(params, images, cam2rig)
        assert {name: array.shape for name, array in out.items()} == {
            "pointmap": (2, 3, 256, 3),
            "pointmap_conf": (2, 3, 256, 1),
            "pose_raymap": (2, 3, 4, 3),
            "rig_raymap": (2, 3, 4, 6),
            "features": (2, 3, 4, 12),
        }
        np.testing.assert_allclose(jnp.linalg.norm(out["pose_raymap"], axis=-1), 1.0, rtol=1e-5)


def test_first_rotation_turns_the_rig_rays_of_all_views(images, params):
    blind = {**params, "cam2rig_embed": jax.tree.map(jnp.zeros_like, params["cam2rig_embed"])}  # tokens see no cam2rig
    stacked = jnp.asarray(_rotations(2, 3).reshape(2, 9, 3), jnp.float32)
    upright = jnp.tile(jnp.eye(3), (2, 3, 1))
    plain, turned = (run(blind, images, m)["rig_raymap"] for m in (upright, stacked))
    origins, directions = jnp.split(plain, 2, axis=-1)
    expected = [jnp.einsum("bij,bvnj->bvni", stacked[:, :3], part) for part in (origins, directions)]
    np.testing.assert_allclose(turned, jnp.concatenate(expected, -1), atol=1e-5)


def test_every_parameter_matters_once_there_is_metadata(images, params):
    cam2rig = jnp.asarray(_rotations(2), jnp.float32)

    def total(params, cam2rig):
        return sum(jnp.sin(array).sum() for array in run(params, images, cam2rig).values())

    with_metadata, without = jax.grad(total)(params, cam2rig), jax.grad(total)(params, None)
    silent = [
        jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(with_metadata) if not g.any()
    ]
    assert silent == ["['learned_meta']"]
    assert np.abs(without["learned_meta"]).max() > 0 and not without["cam2rig_embed"]["kernel"].any()


def test_float64_is_computed_in_float64(images, params):
    single = run(params, images, None)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        double = jax.tree.map(np.asarray, run(wide, jnp.asarray(images, jnp.float64), None))
    for name, array in double.items():
        assert array.dtype == np.float64
        assert np.abs(array - array.astype(np.float32)).max() > 0  # more digits than single precision has
        np.testing.assert_allclose(single[name], array, atol=1e-4, rtol=1e-4)


def test_other_image_size_is_refused(images, params):
    with pytest.raises(ValueError, match=r"images are 24x16.*16x16"):
        OpenRig3R(**TINY).apply({"params": params}, jnp.ones((1, 1, 24, 16, 3)))


def test_metadata_of_another_width_are_refused(images):
    model = OpenRig3R(**{**TINY, "metadata_width": 8})
    key = jax.random.key(0)
    out, variables = jax.eval_shape(model.init_with_output, key, images)  # without metadata it runs, as theirs does
    assert out["features"].shape == (2, 3, 4, 12) and variables["params"]["metadata_project"]["kernel"].shape == (8, 12)
    with pytest.raises(ValueError, match="metadata_width 8 is not its width 12"):
        jax.eval_shape(model.apply, variables, images, jnp.tile(jnp.eye(3), (2, 1, 1)))


def test_golden_forward_in_both_precisions(shared):
    folder = shared / "golden/openrig3r_tiny"
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    params, metadata = convert_tensors(read_tensors(folder / "weights.safetensors"), decoder_heads=4)
    fields = json.loads(metadata["fields"])
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            out = jax.jit(OpenRig3R(**fields, dtype=dtype).apply)(
                {"params": jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)},  # noqa: B023
                jnp.asarray(np.moveaxis(inputs["images"], 2, -1), dtype),
                jnp.asarray(inputs["cam2rig_bv33"], dtype),
            )
        for name, array in out.items():
            expected = outputs[f"cam2rig_bv33/{name}"]
            np.testing.assert_allclose(array, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)
