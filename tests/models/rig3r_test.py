"""Rig3R: shapes, independence of implementation choices, and what metadata may and may not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.rig3r import VARIANTS, build, output_grids
from rig3r_jax.schema import Views
from tests.batches import random_batch

LINEAR = {
    "variant": "tiny", "width": 32, "heads": 2, "encoder_depth": 1, "ray_hidden": 32, "attention": "dense",
    "point_head": "linear", "points_per_patch": 4, "rays_per_patch": 2,
}  # fmt: skip
DPT = {**LINEAR, "point_head": "dpt", "rays_per_patch": 16, "dpt_features": 16, "dpt_last": 8, "dpt_chunk": 3}
HEADS = {"linear": LINEAR, "dpt": DPT}


def _views(**kwargs) -> Views:
    return jax.tree.map(jnp.asarray, random_batch(**kwargs).views)


@functools.cache
def _params(head: str):
    """Parameters of a model with that head: random, so that zeros of the initialisation hide nothing."""
    shapes = jax.eval_shape(build(**HEADS[head]).init, jax.random.key(0), _views())
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[-4:-1]) if len(leaf.shape) > 1 else 4
        return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)


@functools.cache
def _apply(head: str):
    return jax.jit(build(**HEADS[head]).apply)


@pytest.mark.parametrize("head", HEADS)
def test_output_shapes_and_ranges(head):
    out = _apply(head)(_params(head), _views())
    points_grid, rays_grid = output_grids(build(**HEADS[head]), 32, 32)
    assert out.points.shape == (2, 3, *points_grid, 3) and out.confidence.shape == (2, 3, *points_grid)
    assert out.pose_directions.shape == out.rig_directions.shape == (2, 3, *rays_grid, 3)
    assert out.pose_center.shape == out.rig_center.shape == (2, 3, 3)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert (out.confidence > 1).all()


@functools.cache
def _value_and_gradient(head: str, *change: tuple):
    model = build(**{**HEADS[head], **dict(change)})

    def loss(params):
        return sum(jnp.tanh(leaf).mean() for leaf in jax.tree.leaves(model.apply(params, _views())))

    return jax.jit(jax.value_and_grad(loss))(_params(head))


@pytest.mark.parametrize(
    ("head", "change"),
    [
        ("linear", ("attention", "chunked")),
        ("linear", ("remat", "full")),
        ("linear", ("remat", "attention")),
        ("linear", ("unroll", True)),
        ("dpt", ("dpt_chunk", 1)),
    ],
)
def test_choices_of_implementation_change_neither_output_nor_gradient(head, change):
    value, grads = _value_and_gradient(head)
    other_value, other_grads = _value_and_gradient(head, change)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), other_grads, grads)


@pytest.mark.parametrize("position", ["sincos", "rope"])
def test_order_of_later_images_does_not_matter(position):
    views = _views()
    apply = jax.jit(build(**LINEAR, position=position).apply)
    order = np.array([0, 2, 1])
    out = apply(_params("linear"), views)
    shuffled = apply(_params("linear"), jax.tree.map(lambda x: x[:, order], views))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:, order], b, rtol=1e-3, atol=1e-4), out, shuffled)


@pytest.mark.parametrize("field", ["camera_id", "time", "rig"])
def test_hidden_metadata_cannot_reach_the_output_and_shown_metadata_does(field):
    views = _views()

    def run(shown: bool, changed: bool):
        told = views.metadata
        told = told.replace(**{f"has_{field}": jnp.full(told.has_time.shape, shown)})
        if changed:
            name = {"rig": "rig_from_camera"}.get(field, field)
            other = getattr(told, name)
            told = told.replace(
                **{name: other + 3 if shown or other.dtype == jnp.int32 else jnp.full_like(other, jnp.nan)}
            )
        return _apply("linear")(_params("linear"), views.replace(metadata=told))

    jax.tree.map(np.testing.assert_array_equal, run(False, True), run(False, False))  # NaN, where it can be
    assert np.abs(run(True, True).points - run(True, False).points).max() > 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_receives_a_gradient(head):
    _, grads = _value_and_gradient(head)
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    # A bias of the keys shifts all logits of a query alike: softmax does not see it.
    silent = [jax.tree_util.keystr(path) for path, leaf in leaves if not np.any(leaf)]
    assert len(leaves) > 50 and not silent


def test_without_the_rig_embedding_nothing_of_the_rig_reaches_the_output():
    model, views = build(**LINEAR, rig_embedding=False), _views()
    params = model.init(jax.random.key(0), views)
    assert list(params["params"]["rig_embedding"]) == ["frame_index"]
    rng, seen = np.random.default_rng(1), views.metadata
    told = seen.replace(
        camera_id=seen.camera_id + 1, time=seen.time + 3.0, intrinsics=seen.intrinsics * 2.0,
        rig_from_camera=jnp.asarray(rng.normal(size=seen.rig_from_camera.shape), jnp.float32),
        has_camera_id=~seen.has_camera_id, has_time=~seen.has_time, has_rig=~seen.has_rig,
    )  # fmt: skip
    apply = jax.jit(model.apply)
    before, after = apply(params, views), apply(params, views.replace(metadata=told))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    turned = views.replace(metadata=seen.replace(frame_index=seen.frame_index[:, ::-1]))
    assert not np.array_equal(before.points, apply(params, turned).points)  # the images' order is told all the same


def test_unknown_metadata_that_is_not_a_number_spoils_no_gradient():
    views = _views()
    told = views.metadata
    no = jnp.zeros_like(told.has_time)
    nan = {name: jnp.full_like(getattr(told, name), jnp.nan) for name in ("time", "rig_from_camera", "intrinsics")}
    views = views.replace(metadata=told.replace(**nan, has_time=no, has_rig=no))
    model = build(**LINEAR)
    grads = jax.jit(jax.grad(lambda params: model.apply(params, views).points.sum()))(_params("linear"))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_rectangular_images():
    views = _views()
    views = views.replace(images=views.images[:, :, :, :16], image_mask=views.image_mask[..., :16])
    assert _apply("dpt")(_params("dpt"), views).points.shape == (2, 3, 32, 16, 3)


def test_bytes_and_floats_are_the_same_images():
    views = _views()
    floats = views.replace(images=views.images.astype(jnp.float32) / 255)
    out, other = (_apply("linear")(_params("linear"), v) for v in (views, floats))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), out, other)


def test_large_variant_is_the_papers():
    model = build(variant="large", backend="cpu")
    views = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), _views(batch=1, views=2, size=64))
    shapes = jax.eval_shape(model.init, jax.random.key(0), views)
    encoder = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["encoder"]))
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert encoder == 303_098_880  # DUSt3R's ViT-L/16 encoder has as many
    assert 620e6 < total < 645e6
    assert VARIANTS["large"] == {
        "width": 1024,
        "heads": 16,
        "encoder_depth": 24,
        "decoder_depth": 24,
        "ray_hidden": 1024,
    }


@pytest.mark.parametrize(
    "fields",
    [{"variant": "huge"}, {"attention": "magic"}, {"remat": "some"}, {"position": "none"}, {"dtype": "int8"}],
    ids=str,
)
def test_unknown_choice_is_named(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"model.{name} is '{value}'"):
        build(**{"variant": "tiny", **fields})
