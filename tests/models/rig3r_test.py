"""Rig3R: shapes, independence of implementation choices, and what metadata may and may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.rig3r import VARIANTS, Rig3R, build, output_grids
from rig3r_jax.schema import Views
from tests.batches import random_batch

TINY = {"variant": "tiny", "attention": "dense", "ray_hidden": 32, "dpt_features": 16, "dpt_last": 8}
LINEAR = {**TINY, "point_head": "linear", "points_per_patch": 4, "rays_per_patch": 2}


def _views(**kwargs) -> Views:
    return jax.tree.map(jnp.asarray, random_batch(**kwargs).views)


def _init(model: Rig3R, views: Views):
    return jax.jit(model.init)(jax.random.key(0), views)


@pytest.mark.parametrize("fields", [TINY, LINEAR], ids=["dpt", "linear"])
def test_output_shapes_and_ranges(fields):
    views = _views()
    model = build(**fields)
    out = jax.jit(model.apply)(_init(model, views), views)
    points_grid, rays_grid = output_grids(model, 32, 32)
    assert out.points.shape == (2, 3, *points_grid, 3) and out.confidence.shape == (2, 3, *points_grid)
    assert out.pose_directions.shape == out.rig_directions.shape == (2, 3, *rays_grid, 3)
    assert out.pose_center.shape == out.rig_center.shape == (2, 3, 3)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert (out.confidence > 1).all()


@pytest.mark.parametrize(
    "change",
    [
        {"attention": "chunked"},
        {"remat": "full"},
        {"remat": "attention"},
        {"unroll": True},
        {"dpt_chunk": 1},
        {"dpt_chunk": 2},
    ],
    ids=str,
)
def test_choices_of_implementation_change_neither_output_nor_gradient(change):
    views = _views()
    reference, other = build(**TINY), build(**{**TINY, **change})
    params = _init(reference, views)

    def loss(params, model):
        return sum((leaf**2).mean() for leaf in jax.tree.leaves(model.apply(params, views)))

    value, grads = jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, reference)
    other_value, other_grads = jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, other)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), other_grads, grads)


@pytest.mark.parametrize("position", ["sincos", "rope"])
def test_order_of_later_images_does_not_matter(position):
    views = _views()
    model = build(**LINEAR, position=position)
    params = _init(model, views)
    order = np.array([0, 2, 1])
    out = jax.jit(model.apply)(params, views)
    shuffled = jax.jit(model.apply)(params, jax.tree.map(lambda x: x[:, order], views))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:, order], b, rtol=1e-4, atol=1e-5), out, shuffled)


@pytest.mark.parametrize("field", ["camera_id", "time", "rig"])
def test_hidden_metadata_cannot_reach_the_output_and_shown_metadata_does(field):
    views = _views()
    model = build(**LINEAR)
    params = _init(model, views)

    def run(shown: bool, changed: bool):
        told = views.metadata
        flags = jnp.full(told.has_time.shape, shown)
        told = told.replace(**{f"has_{field}": flags})
        if changed:
            name = {"rig": "rig_from_camera"}.get(field, field)
            told = told.replace(**{name: getattr(told, name) + 3})
        return jax.jit(model.apply)(params, views.replace(metadata=told))

    jax.tree.map(np.testing.assert_array_equal, run(False, True), run(False, False))
    assert np.abs(run(True, True).points - run(True, False).points).max() > 1e-4


def test_every_parameter_receives_a_gradient():
    views = _views()
    told = views.metadata
    model = build(**TINY)
    params = _init(model, views)
    mixed = jnp.array([[True, False, True], [False, True, False]])
    views = views.replace(metadata=told.replace(has_camera_id=mixed, has_time=~mixed, has_rig=mixed))

    def loss(params):
        return sum(jnp.sin(3 * leaf).sum() for leaf in jax.tree.leaves(model.apply(params, views)))

    grads = jax.jit(jax.grad(loss))(params)
    silent = [
        jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if not np.any(leaf)
    ]
    assert not silent


def test_rectangular_images():
    views = _views(size=32)
    views = views.replace(images=views.images[:, :, :, :16], image_mask=views.image_mask[..., :16])
    model = build(**TINY)
    out = jax.jit(model.apply)(_init(model, views), views)
    assert out.points.shape == (2, 3, 32, 16, 3)


def test_bytes_and_floats_are_the_same_images():
    views = _views()
    model = build(**LINEAR)
    params = _init(model, views)
    floats = views.replace(images=views.images.astype(jnp.float32) / 255)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        jax.jit(model.apply)(params, views), jax.jit(model.apply)(params, floats),
    )  # fmt: skip


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
