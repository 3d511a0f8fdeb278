"""A table maps every tensor once, both ways, bit for bit, and says all that does not fit at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.layers import BlockOptions, Blocks
from rig3r_jax.models.vit import patchify
from rig3r_jax.weights import engine
from rig3r_jax.weights.engine import ConversionError, Entry, Table, block_entries, convert, export

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


LAYOUTS = {
    "linear": (engine.LINEAR, (5, 3), (3, 5)),
    "conv": (engine.CONV, (7, 5, 2, 3), (2, 3, 5, 7)),
    "conv_transpose": (engine.CONV_TRANSPOSE, (5, 7, 4, 2), (4, 2, 5, 7)),
    "patch": (engine.PATCH, (7, 3, 4, 4), (48, 7)),
    "squeezed": (engine.squeezed(2), (1, 1, 6), (6,)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_inverse(name):
    layout, torch_shape, flax_shape = LAYOUTS[name]
    tensor = random(*torch_shape)
    leaf = layout.to_flax(tensor)
    assert leaf.shape == flax_shape
    np.testing.assert_array_equal(layout.to_torch(leaf), tensor)


@torch.no_grad()
def test_layouts_mean_the_same_layer():
    images = torch.randn(2, 3, 8, 12)
    theirs, ours = images.numpy(), images.permute(0, 2, 3, 1).numpy()

    def check(module, flax_module, layout, flax_input, channels_last=True):
        params = {"kernel": layout.to_flax(module.weight.numpy()), "bias": module.bias.numpy()}
        out = np.asarray(flax_module.apply({"params": params}, flax_input))
        want = module(torch.from_numpy(theirs)).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(out.reshape(want.shape), want, rtol=1e-4, atol=1e-5)

    check(
        torch.nn.Conv2d(3, 5, (3, 1), padding=(1, 0)), nn.Conv(5, (3, 1), padding=((1, 1), (0, 0))), engine.CONV, ours
    )
    upsampling = nn.ConvTranspose(5, (4, 4), (4, 4), padding="VALID")
    check(torch.nn.ConvTranspose2d(3, 5, 4, 4), upsampling, engine.CONV_TRANSPOSE, ours)
    check(torch.nn.Conv2d(3, 5, 4, 4), nn.Dense(5), engine.PATCH, patchify(jnp.asarray(ours), 4))


def stack(depth=3):
    """A small stack of blocks: its table, the tensors of its PyTorch names, the shapes of its parameters."""
    model = Blocks(depth, BlockOptions(2, qk_norm=True, layer_scale=0.1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 8), jnp.float32))["params"]
    entries = [
        entry
        for index in range(depth)
        for entry in block_entries(f"blocks.{index}", "block", index, qk_norm=True, layer_scale=True)
    ]
    table = Table(tuple(entries), ignored=(r"head\..*",))
    flat = engine.flatten(shapes)
    tensors = {
        entry.source: random(*entry.layout.to_torch(np.zeros(flat[entry.target].shape[1:])).shape) for entry in entries
    }
    return table, tensors, shapes


def test_round_trip_is_exact_and_leaves_out_what_is_ignored():
    table, tensors, shapes = stack()
    params = convert({**tensors, "head.weight": random(3)}, table, shapes)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    np.testing.assert_array_equal(params["block"]["attn"]["qkv"]["kernel"][1], tensors["blocks.1.attn.qkv.weight"].T)
    back = export(jax.tree.map(jnp.asarray, params), table)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_other_types_become_the_model_s(dtype):
    table, tensors, shapes = stack(depth=1)
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    params = convert(tensors, table, shapes)
    kernel = params["block"]["mlp"]["fc1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[0], tensors["blocks.0.mlp.fc1.weight"].T.astype(np.float32))


def test_one_message_names_everything_that_does_not_fit():
    table, tensors, shapes = stack()
    del tensors["blocks.1.norm1.bias"]
    tensors["blocks.7.norm1.bias"] = random(8)
    tensors["blocks.0.mlp.fc2.weight"] = random(32, 8)
    tensors["blocks.2.mlp.fc2.bias"] = np.arange(8)
    with pytest.raises(ConversionError) as caught:
        convert(tensors, table, {**shapes, "norm": {"scale": jax.ShapeDtypeStruct((8,), jnp.float32)}})
    message = str(caught.value)
    for part in (
        "1 unknown keys:\n  blocks.7.norm1.bias",
        "1 missing keys:\n  blocks.1.norm1.bias",
        "1 parameters that nothing fills:\n  norm/scale",
        "blocks.0.mlp.fc2.weight: has shape (32, 8), block/mlp/fc2/kernel wants (8, 32)",
        "blocks.2.mlp.fc2.bias: holds int64",
    ):
        assert part in message


def test_a_stack_of_another_depth_is_told():
    table, tensors, _ = stack(depth=3)
    with pytest.raises(ConversionError, match=r"block/norm1/scale\[3\]"):
        convert(tensors, table, stack(depth=4)[2])
    with pytest.raises(ConversionError, match=r"is number 2 of block/norm1/scale, which has shape \(2, 8\)"):
        convert(tensors, table, stack(depth=2)[2])


def test_export_names_what_it_cannot_place():
    table, tensors, shapes = stack(depth=1)
    params = convert(tensors, table, shapes)
    params["block"]["extra"] = {"bias": random(3)}
    del params["block"]["norm2"]
    with pytest.raises(ConversionError) as caught:
        export(params, table)
    for name in ("block/extra/bias", "block/norm2/scale", "block/norm2/bias"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        Table((Entry("a", "x"), Entry("a", "y"))),
        Table((Entry("a", "x"), Entry("b", "x"))),
        Table((Entry("a", "x"),), ignored=("a",)),
    ],
)
def test_a_table_that_is_no_mapping_is_our_bug(table):
    with pytest.raises(AssertionError):
        convert({}, table, {})


def test_a_long_list_is_cut():
    with pytest.raises(ConversionError, match="200 unknown keys(.|\n)*and 150 more"):
        convert({f"key{i}": random(1) for i in range(200)}, Table(()), {})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_broken_numbers_are_named(number):
    tensors = {"a": np.ones(3, np.float32), "b": np.array([1, number, 1], np.float32)}
    table = Table((Entry("a", "x/a"), Entry("b", "x/b")))
    shape = jax.ShapeDtypeStruct((3,), np.float32)
    with pytest.raises(ConversionError, match="1 tensors with NaN or infinite numbers:\n  b"):
        convert(tensors, table, {"x": {"a": shape, "b": shape}})


def test_patches_are_square_and_coloured():
    with pytest.raises(AssertionError, match="32 rows are no square patch of 3 channels"):
        engine.PATCH.to_torch(np.zeros((32, 7)))
