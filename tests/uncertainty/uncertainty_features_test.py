"""Features of frozen backbones: what they are, that nothing of the backbone moves, and the file that keeps them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.configs import demo
from rig3r_jax.geometry import pose_encoding
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.geometry.recover import recover_camera
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.models.vggt import build_vggt
from rig3r_jax.schema import Distortion
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.uncertainty.backbone import Rig3RBackbone, VggtBackbone
from rig3r_jax.uncertainty.features import (
    WindowFeatures,
    joined,
    load_cached,
    parameters_digest,
    save,
)
from rig3r_jax.uncertainty.head import HeadOptions, train_head
from tests.batches import random_batch

WIDTH = 16
BATCHES = [random_batch(seed, batch=2, views=3) for seed in (0, 1)]
KEY = {"parameters": "abc", "split": "train", "count": 4, "seed": 0}


def run_of(known_intrinsics: bool) -> PlacedModel:
    config = demo.get_config()
    config.evaluation.known_intrinsics = known_intrinsics
    run = PlacedModel(config, jax.devices()[:1])
    sizes = {"width": WIDTH, "heads": 2, "encoder_depth": 1, "ray_hidden": 16, "points_per_patch": 4}
    run.model = run.model.clone(**sizes, point_head="linear", rays_per_patch=4)
    return run


MODEL = run_of(True).model


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), BATCHES[0].views)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def windows(params):
    return Rig3RBackbone(run_of(True), params).features(BATCHES)


def test_wide_lenses_want_to_be_known(params):
    targets = BATCHES[0].targets
    fisheyes = Distortion(np.full((2, 3), 2, np.int32), np.zeros((2, 3, 5), np.float32))
    batch = BATCHES[0].replace(targets=targets.replace(distortion=fisheyes))
    with pytest.raises(ValueError, match="wide lenses .fisheye or unified.; take a run with known_intrinsics=True"):
        Rig3RBackbone(run_of(False), params).features([batch])


@pytest.mark.parametrize("known", [True, False])
def test_cameras_of_rig3r_are_the_closed_form_on_its_pose_rays(params, windows, known):
    found = windows if known else Rig3RBackbone(run_of(False), params).features(BATCHES)
    assert found.features.shape == (1, 4, 3, 16) and found.features.dtype == np.float32
    apply = jax.jit(MODEL.apply)
    for n, batch in enumerate(BATCHES):
        predictions = apply({"params": params}, batch.views)
        directions = np.array(predictions.pose_directions)
        directions[:, 1, :2] = 0.0  # rays of the padding, a quarter of the rows of view 1
        lenses = Pinhole(jnp.asarray(batch.targets.intrinsics)) if known else None
        expected = recover_camera(jnp.asarray(directions), predictions.pose_center, 32, 32, lenses)
        got = np.linalg.inv(found.camera_from_world_predicted[0, 2 * n : 2 * n + 2].astype(np.float64))
        np.testing.assert_allclose(got, expected.a_from_camera, atol=2e-3)
        true = found.camera_from_world_true[2 * n : 2 * n + 2]
        np.testing.assert_allclose(np.linalg.inv(true), batch.targets.reference_from_camera, atol=1e-5)
    np.testing.assert_allclose(found.camera_from_world_true[:, 0], np.tile(np.eye(4), (4, 1, 1)), atol=1e-6)
    assert found.names == ("0", "1", "2", "3")


def test_features_of_rig3r_are_its_decoder_tokens_over_the_image(params, windows):
    batch = BATCHES[0]
    capture = functools.partial(MODEL.apply, capture_intermediates=True, mutable=["intermediates"])
    _, state = jax.jit(capture)({"params": params}, batch.views)
    tokens = np.asarray(state["intermediates"]["decoder"]["norm"]["__call__"][0]).reshape(2, 3, 4, 16)
    expected = tokens.mean(axis=2)
    expected[:, 1] = np.average(tokens[:, 1], axis=1, weights=[0.5, 0.5, 1, 1])  # half of the upper patches is padding
    np.testing.assert_allclose(windows.features[0, :2], expected, rtol=1e-4, atol=1e-5)


def test_backbone_is_untouched(params):
    before, digest = jax.tree.map(np.array, params), parameters_digest(params)
    train_head(Rig3RBackbone(run_of(True), params).features(BATCHES), NllOptions(), HeadOptions(steps=2), 0)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert parameters_digest(params) == digest
    other = jax.tree.map(lambda x: x, before)
    other["decoder"]["norm"]["bias"] = other["decoder"]["norm"]["bias"] + 1
    assert parameters_digest(other) != digest


def test_vggt_gives_cameras_and_features_of_every_refinement():
    model = build_vggt(
        variant="tiny", width=16, heads=2, encoder_depth=1, encoder_heads=2, camera_heads=2, patch=4, trunk_depth=1,
        iterations=3, outputs=("camera",), log_variance=True, attention="dense",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    batch = BATCHES[0]
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch.views.images)["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), shapes)
    found = VggtBackbone(model, params, 32).features([batch], names=["a", "b"])
    white = np.where(batch.views.image_mask[..., None], batch.views.images, np.uint8(255))
    assert (white != batch.views.images).any()
    camera = jax.jit(model.apply)({"params": params}, white).camera
    np.testing.assert_allclose(found.features, camera.features, rtol=1e-3, atol=1e-4)
    expected, _ = pose_encoding.decode(camera.encoding, 32, 32)
    np.testing.assert_allclose(found.camera_from_world_predicted, expected, rtol=1e-3, atol=1e-4)
    assert found.features.shape == (3, 2, 3, 32) and found.names == ("a", "b")


def test_cache_gives_back_what_was_saved_under_its_key_alone(windows, tmp_path, caplog):
    path = tmp_path / "cache" / "train.npz"
    assert load_cached(path, KEY) is None
    save(windows, path, KEY)
    found = load_cached(path, dict(reversed(KEY.items())))
    for field in dataclasses.fields(windows):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(windows, field.name))
    assert found.names == windows.names and [file.name for file in path.parent.iterdir()] == ["train.npz"]
    with caplog.at_level("INFO"):
        for name, value in {"parameters": "abd", "split": "test", "count": 5, "seed": 1}.items():
            assert load_cached(path, {**KEY, name: value}) is None
    assert "computed anew" in caplog.text
    other = dataclasses.replace(windows, features=windows.features + 1)
    save(other, path, {**KEY, "seed": 1})  # takes the old one's place
    assert load_cached(path, KEY) is None
    np.testing.assert_array_equal(load_cached(path, {**KEY, "seed": 1}).features, other.features)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_cache_is_named(tmp_path, content):
    path = tmp_path / "train.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="train.npz holds no features.*delete it"):
        load_cached(path, KEY)


def test_windows_that_cannot_be_are_refused(windows):
    features = windows.features.copy()
    features[0, 2, 1, 3] = np.nan
    with pytest.raises(ValueError, match="features is not finite in 1 of 4 windows, first 2"):
        dataclasses.replace(windows, features=features)
    with pytest.raises(ValueError, match="camera_from_world_true has the shape"):
        dataclasses.replace(windows, camera_from_world_true=windows.camera_from_world_true[:, :2])
    with pytest.raises(ValueError, match="1 names of 4 windows"):
        dataclasses.replace(windows, names=("a",))
    with pytest.raises(ValueError, match="at least one batch"):
        joined([])
    assert len(joined([windows, windows])) == 2 * len(windows) == 8
    assert isinstance(windows, WindowFeatures) and (windows.views, windows.width) == (3, 16)
