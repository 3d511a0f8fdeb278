"""A file's weights replace a model's, of the same names and shapes, in the model's types."""

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.weights.overlay import misfits, origins, overlay


def test_leaves_are_replaced_in_place_and_type():
    tree = {"encoder": {"a": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.zeros(2)}, "head": {"c": jnp.ones(4)}}
    found = {"encoder/a": np.arange(6.0).reshape(2, 3).T.copy().T}
    new = overlay(tree, found)
    assert jax.tree.structure(new) == jax.tree.structure(tree)
    assert new["encoder"]["a"].dtype == jnp.bfloat16 and new["encoder"]["a"].sharding == tree["encoder"]["a"].sharding
    np.testing.assert_array_equal(new["encoder"]["a"], found["encoder/a"])
    assert new["head"]["c"] is tree["head"]["c"]


def test_misfits_and_origins_are_named():
    model = {"encoder/a": np.zeros((2, 3)), "encoder/b": np.zeros(2), "head/c": np.zeros(4)}
    assert misfits({"encoder/a": np.zeros((2, 3))}, model) == []
    assert misfits({"encoder/a": np.zeros(6), "x": np.zeros(1)}, model) == [
        "encoder/a (6,): the model has (2, 3)",
        "x (1,): the model has no such parameter",
    ]
    report = origins("w.safetensors", {"kind": "dust3r", "source": "s.pth"}, {"encoder/a": np.zeros((2, 3))}, model)
    for part in ("w.safetensors (dust3r, made from s.pth): 1 of 3 arrays, 6 numbers", "encoder 1, head 1"):
        assert part in report
