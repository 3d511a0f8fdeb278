"""Rig3R's parameters have the names and the meaning of the plain PyTorch twin's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import random_batch

from rig3r_jax.models.rig3r import build
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.engine import convert, export, flatten

torch = pytest.importorskip("torch")


def abstract(**fields):
    """A small model and the shapes of its parameters."""
    model = build(variant="tiny", backend="cpu", **fields)
    views = jax.tree.map(jnp.asarray, random_batch().views)
    return model, jax.eval_shape(model.init, jax.random.key(0), views)["params"]


FORMS = {
    "dpt": {"dpt_features": 8, "dpt_last": 4},
    "linear": {"point_head": "linear", "qk_norm": True, "decoder_width": 32, "encoder_depth": 3, "decoder_depth": 9},
}


@pytest.mark.parametrize("form", FORMS)
def test_names_and_shapes_are_the_twin_s(form):
    from rig3r_jax.parity.torch_rig3r import Rig3R as Twin

    model, shapes = abstract(**FORMS[form])
    twin = Twin(**{field: getattr(model, field) for field in Twin.FIELDS})
    params = jax.tree.map(lambda leaf: np.random.default_rng(0).random(leaf.shape, np.float32), shapes)
    tensors = export(params, rig3r.table(shapes))
    twin.load_state_dict({name: torch.tensor(np.ascontiguousarray(array)) for name, array in tensors.items()})
    back = convert({name: tensor.numpy() for name, tensor in twin.state_dict().items()}, rig3r.table(shapes), shapes)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_names_of_the_paths():
    _, shapes = abstract(decoder_depth=8, qk_norm=True)
    entries = {entry.source: entry for entry in rig3r.table(shapes).entries}
    entry = entries["decoder.stage0.3.attn.qkv.weight"]
    assert (entry.target, entry.index) == ("decoder/stage0/block/attn/qkv/kernel", 3)
    assert entries["encoder.blocks.1.norm2.weight"].target == "encoder/blocks/block/norm2/scale"
    assert entries["rig_embedding.camera_id_null"].target == "rig_embedding/camera_id_null"
    assert entries["point_head.dpt.level1_resize.weight"].layout.name == "conv_transpose"
    assert entries["point_head.dpt.level4_resize.weight"].layout.name == "conv"
    assert entries["encoder.patch_embed.weight"].layout.name == "linear"
    assert {entry.target for entry in entries.values()} == flatten(shapes).keys()
