"""VGGT: shapes, independence of implementation choices, symmetries, gradients, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import pose_encoding, se3
from rig3r_jax.models.aggregator import stage_ends
from rig3r_jax.models.camera_head import CameraEstimate, CameraHead
from rig3r_jax.models.vggt import VARIANTS, VGGTOutput, build_vggt, unproject_depth

SMALL = {
    "variant": "tiny", "width": 16, "heads": 2, "encoder_depth": 1, "encoder_heads": 2, "camera_heads": 2,
    "patch": 4, "trunk_depth": 1, "iterations": 3, "dpt_features": 8, "dpt_widths": (4, 4, 8, 8), "log_variance": True,
    "attention": "dense",
}  # fmt: skip


def _images(views: int = 3, height: int = 8, width: int = 12):
    return jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, views, height, width, 3), np.uint8))


FEWER = (("outputs", ("camera", "depth")), ("log_variance", False))  # quicker where the rest does not matter


@functools.cache
def _params():
    """Random parameters, so that zeros and small factors of the initialisation hide nothing."""
    shapes = jax.eval_shape(build_vggt(**SMALL).init, jax.random.key(0), _images())
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        fan_in = np.prod(leaf.shape[-4:-1]) if leaf.ndim > 1 else 4
        return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def _apply(*changes: tuple):
    return jax.jit(build_vggt(**{**SMALL, **dict(changes)}).apply)


def _close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_output_shapes_and_ranges():
    out = _apply()(_params(), _images())
    assert out.camera.encoding.shape == (3, 2, 3, 9) and out.camera.log_variance.shape == (3, 2, 3, 6)
    assert out.camera.features.shape == (3, 2, 3, 32)
    assert out.depth.shape == out.depth_confidence.shape == out.points_confidence.shape == (2, 3, 8, 12)
    assert out.points_world.shape == (2, 3, 8, 12, 3)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert (out.depth > 0).all() and (out.depth_confidence > 1).all() and (out.points_confidence > 1).all()
    assert (out.camera.encoding[..., 7:] >= 0).all()


def test_heads_that_are_left_out_change_nothing_else():
    out = _apply(*FEWER)(_params(), _images())
    whole = _apply()(_params(), _images())
    assert out.points_world is None and out.points_confidence is None and out.camera.log_variance is None
    _close((out.camera.encoding, out.depth), (whole.camera.encoding, whole.depth))
    shapes = jax.eval_shape(build_vggt(**SMALL, outputs=("depth",)).init, jax.random.key(0), _images())["params"]
    assert set(shapes) == {"aggregator", "depth_head"}


@functools.cache
def _value_and_gradient(*changes: tuple):
    model = build_vggt(**{**SMALL, **dict(changes)})

    def loss(params):
        return sum(jnp.tanh(leaf).mean() for leaf in jax.tree.leaves(model.apply(params, _images(2))))

    return jax.jit(jax.value_and_grad(loss))(_params())


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/models")
def test_choices_of_implementation_change_neither_output_nor_gradient():
    value, gradient = _value_and_gradient()
    other_value, other_gradient = _value_and_gradient(("remat", "full"), ("unroll", True), ("dpt_chunk", 1))
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    _close(other_gradient, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/models")
def test_every_parameter_receives_a_gradient():
    _, gradient = _value_and_gradient()
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    silent = [jax.tree_util.keystr(path) for path, leaf in leaves if not np.any(leaf)]
    assert len(leaves) > 100 and not silent


def test_a_refinement_sends_no_gradient_through_the_earlier_ones():
    """What a refinement is told is stopped, so `empty_pose` is reached through the first one only."""
    head = CameraHead(heads=2, trunk_depth=1, iterations=3)
    tokens = jnp.asarray(np.random.default_rng(2).normal(size=(1, 2, 32)), jnp.float32)
    params = _params()["params"]["camera_head"]
    gradients = jax.jit(jax.jacobian(lambda p: head.apply({"params": p}, tokens).encoding.sum(axis=(1, 2, 3))))(params)
    assert np.abs(gradients["empty_pose"][0]).max() > 1e-6 and not np.any(gradients["empty_pose"][1:])
    assert np.abs(gradients["refinement"]["pose"]["fc2"]["bias"][:, :7]).min() > 0  # but every refinement learns


def test_first_frame_is_special_and_the_order_of_the_others_is_not():
    images = _images()
    apply = _apply(*FEWER)
    out = apply(_params(), images)
    later = np.array([0, 2, 1])
    shuffled = apply(_params(), images[:, later])
    _close(shuffled.depth, out.depth[:, later], rtol=1e-3, atol=1e-4)
    _close(shuffled.camera.encoding, out.camera.encoding[:, :, later], rtol=1e-3, atol=1e-4)
    first = np.array([1, 0, 2])
    assert np.abs(apply(_params(), images[:, first]).depth - out.depth[:, first]).max() > 1e-3


def test_frames_see_each_other_and_samples_do_not():
    images = _images()
    changed = images.at[0, 1].set(255 - images[0, 1])
    depth, other = (_apply(*FEWER)(_params(), x).depth for x in (images, changed))
    assert np.abs(depth[0, 0] - other[0, 0]).max() > 1e-4
    np.testing.assert_allclose(depth[1], other[1], rtol=1e-5)


def test_half_precision_stays_near():
    out = _apply(*FEWER)(_params(), _images())
    half = _apply(*FEWER, ("dtype", "bfloat16"))(_params(), _images())
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half))
    np.testing.assert_allclose(half.camera.encoding, out.camera.encoding, atol=0.15)


def test_depth_of_a_synthetic_scene_unprojects_to_its_points():
    """Two cameras look at the plane z = 5 + 0.1 x of the world; depths and encodings are the true ones."""
    height, width = 8, 12
    tangents = jnp.asarray([[0, 0, 0, 0, 0, 0], [0.3, -0.2, 0.1, 0.05, -0.1, 0.2]], jnp.float32)
    camera_from_world = jax.jit(se3.exp)(tangents)[None]
    intrinsics = np.tile([[10.0, 0, 6], [0, 11, 4], [0, 0, 1]], (1, 2, 1, 1)).astype(np.float32)
    v, u = np.mgrid[:height, :width] + 0.5
    rays_camera = np.stack([(u - 6) / 10, (v - 4) / 11, np.ones_like(u)], axis=-1)  # z = 1
    rotation, translation = (np.asarray(camera_from_world[..., :3, part]) for part in (slice(3), 3))
    rays_world = np.einsum("bvji,hwj->bvhwi", rotation, rays_camera)
    center = -np.einsum("bvji,bvj->bvi", rotation, translation)[:, :, None, None]
    normal = np.array([-0.1, 0, 1])
    depth = jnp.asarray((5 - center @ normal) / (rays_world @ normal), jnp.float32)
    encoding = pose_encoding.encode(camera_from_world, jnp.asarray(intrinsics), height, width)[None]
    output = VGGTOutput(CameraEstimate(encoding, encoding, None), depth, depth, None, None)
    points_world = np.asarray(jax.jit(unproject_depth)(output))
    np.testing.assert_allclose(points_world[..., 2] - 0.1 * points_world[..., 0], 5.0, rtol=1e-5)
    np.testing.assert_allclose(points_world, center + np.asarray(depth)[..., None] * rays_world, atol=1e-4)
    with pytest.raises(ValueError, match="no depth"):
        unproject_depth(output.replace(depth=None))


def test_stages_end_at_the_kept_layers_and_at_the_last():
    assert stage_ends((4, 11, 17, 23), 24) == (5, 12, 18, 24)
    assert stage_ends((0, 2), 6) == (1, 3, 6)
    for levels in ((2, 0), (0, 6), (-1, 2), (1, 1)):
        with pytest.raises(ValueError, match="levels are"):
            stage_ends(levels, 6)


def test_large_variant_is_the_public_model():
    shapes = jax.eval_shape(
        build_vggt(log_variance=True).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 28, 28, 3), jnp.float32)
    )["params"]
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    branch = shapes["camera_head"]["refinement"]["pose_log_var"]
    assert sum(leaf.size for leaf in jax.tree.leaves(branch)) == 2_104_326
    assert sum(sizes.values()) == 1_192_699_422
    assert VARIANTS["1b"]["levels"] == (4, 11, 17, 23)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"variant": "2b"}, "vggt.variant is '2b'; it must be one of tiny, 1b"),
        ({"remat": "some"}, "vggt.remat is 'some'"),
        ({"dtype": "int8"}, "vggt.dtype is 'int8'"),
        ({"outputs": ("camera", "tracks")}, "vggt.outputs is 'tracks'"),
        ({"heads": 5}, "multiple of 4"),
        ({"levels": (0, 1, 3)}, "name four"),
        ({"levels": (0, 1, 2, 4)}, "layers of 0..3"),
        ({"dpt_widths": (4, 6, 8, 8)}, "divisible by 4"),
        ({"attention": "magic"}, "magic"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build_vggt(**{**SMALL, **fields})


@pytest.mark.parametrize("shape", [(1, 2, 3, 8, 8), (1, 2, 8, 8, 4), (1, 0, 8, 8, 3)])
def test_images_of_another_layout_are_refused(shape: tuple[int, ...]):
    model = build_vggt(variant="tiny", patch=4)
    with pytest.raises(ValueError, match="channels last"):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_an_image_side_that_the_patch_does_not_divide_is_named():
    with pytest.raises(ValueError, match="height is 10: it must be a multiple of 4"):
        build_vggt(**SMALL).apply(_params(), _images(1, 10, 8))
