"""Similarities and scales: golden vectors, exact inversion, degenerate point sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import align, se3


@pytest.mark.parametrize("points", ["n4", "n20", "n200"])
@pytest.mark.parametrize("noise", ["", "_noisy"])
@pytest.mark.parametrize("with_scale", [True, False])
def test_umeyama_golden(shared, points, noise, with_scale):
    golden = np.load(shared / "golden/pose_metrics/umeyama.npz")
    with jax.enable_x64(True):
        source, target = jnp.asarray(golden[f"{points}/src"]), jnp.asarray(golden[f"{points}/dst{noise}"])
        similarity = align.umeyama(source, target, with_scale=with_scale)
        error = jnp.sqrt(jnp.mean(jnp.sum((similarity.apply(source) - target) ** 2, -1)))
    key = f"{points}/{'sim3' if with_scale else 'se3'}{noise}"
    for ours, name in (
        (similarity.rotation, "R"),
        (similarity.translation, "t"),
        (similarity.scale, "s"),
        (error, "rmse"),
    ):
        np.testing.assert_allclose(ours, golden[f"{key}/{name}"], atol=1e-9)


@pytest.mark.parametrize("case", ["mirror", "planar"])
def test_umeyama_of_mirrored_and_planar_points_golden(shared, case):
    golden = np.load(shared / "golden/pose_metrics/umeyama.npz")
    with jax.enable_x64(True):
        similarity = align.umeyama(jnp.asarray(golden[f"{case}/src"]), jnp.asarray(golden[f"{case}/dst"]))
        assert abs(np.linalg.det(similarity.rotation) - 1.0) < 1e-9
    for ours, name in ((similarity.rotation, "R"), (similarity.translation, "t"), (similarity.scale, "s")):
        np.testing.assert_allclose(ours, golden[f"{case}/{name}"], atol=1e-9)


def similar_sets(batch, count=12, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(*batch, count, 3))
    rotation = Rotation.random(int(np.prod(batch)), random_state=seed).as_matrix().reshape(*batch, 3, 3)
    scale, translation = rng.uniform(0.1, 10, batch), rng.normal(size=(*batch, 3))
    target = scale[..., None, None] * np.einsum("...ij,...nj->...ni", rotation, source) + translation[..., None, :]
    return source, target, scale, rotation


@pytest.mark.parametrize("batch", [(1,), (5,), (2, 3)])
def test_umeyama_inverts_similarities_and_ignores_unweighted_points(batch):
    source, target, scale, rotation = similar_sets(batch)
    target[..., :3, :] += 100.0
    weights = np.ones(source.shape[:-1])
    weights[..., :3] = 0.0
    similarity = jax.jit(align.umeyama)(*(jnp.asarray(a.astype(np.float32)) for a in (source, target, weights)))
    np.testing.assert_allclose(similarity.scale, scale, rtol=1e-5)
    np.testing.assert_allclose(similarity.rotation, rotation, atol=1e-5)
    moved = similarity.apply(jnp.asarray(source.astype(np.float32)))
    np.testing.assert_allclose(moved[..., 3:, :], target[..., 3:, :], atol=1e-4)


@pytest.mark.parametrize("shape", ["point", "line", "plane", "isotropic"])
def test_umeyama_of_degenerate_points_is_a_rotation_with_finite_gradients(shape):
    points = np.random.default_rng(0).normal(size=(8, 3))
    points *= {"point": [0, 0, 0], "line": [1, 0, 0], "plane": [1, 1, 0], "isotropic": [1, 1, 1]}[shape]
    if shape == "isotropic":  # equal singular values, where the SVD has no derivative
        points = np.concatenate([np.eye(3), -np.eye(3)])
    points = jnp.asarray(points.astype(np.float32)) + 2.0

    def residual(target):
        similarity = align.umeyama(points, target)
        return jnp.sum(similarity.apply(points) ** 2), similarity

    gradient, similarity = jax.grad(residual, has_aux=True)(points)
    assert np.isfinite(gradient).all()
    assert abs(np.linalg.det(similarity.rotation) - 1.0) < 1e-5
    np.testing.assert_allclose(similarity.apply(points), points, atol=1e-5)


def test_to_first_view_golden(shared):
    golden = np.load(shared / "golden/pose_metrics/rays.npz")
    with jax.enable_x64(True):
        ours = align.to_first_view(jnp.asarray(golden["T_cam2world"]))
    np.testing.assert_allclose(ours, golden["T_cam2ref0"], atol=1e-12)


def test_to_first_view_does_not_depend_on_the_world():
    rng = np.random.default_rng(0)
    cameras = se3.exp(jnp.asarray(rng.normal(size=(2, 4, 6)).astype(np.float32)))
    world = se3.exp(jnp.asarray(rng.normal(size=(2, 1, 6)).astype(np.float32)))
    ours = align.to_first_view(cameras)
    np.testing.assert_allclose(ours[:, 0], np.broadcast_to(np.eye(4), (2, 4, 4)), atol=1e-6)
    np.testing.assert_allclose(align.to_first_view(se3.compose(world, cameras)), ours, atol=5e-6)


def test_metric_scale_is_the_least_squares_factor_of_the_known_views():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(2, 5, 3)).astype(np.float32)
    mask = np.array([[True, True, False, True, True], [True, False, True, True, False]])
    known = predicted * np.array([3.0, 0.25])[:, None, None] + 0.01 * rng.normal(size=predicted.shape)
    expected = [
        np.linalg.lstsq(p[m].reshape(-1, 1), k[m].ravel())[0][0] for p, k, m in zip(predicted, known, mask, strict=True)
    ]
    predicted[~mask], known[~mask] = np.nan, np.nan
    known = jnp.asarray(known.astype(np.float32))
    ours, gradient = jax.value_and_grad(lambda p: align.metric_scale(p, known, jnp.asarray(mask)).sum())(
        jnp.asarray(predicted)
    )
    np.testing.assert_allclose(ours, sum(expected), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_metric_scale_is_nan_where_nothing_tells_it():
    centers = jnp.ones((3, 2, 3)).at[1].set(0.0)
    mask = jnp.array([[False, False], [True, True], [True, True]])
    np.testing.assert_array_equal(np.isnan(align.metric_scale(centers, centers, mask)), [True, True, False])
    np.testing.assert_array_equal(np.isnan(align.metric_scale(jnp.ones((3, 2, 3)), centers, mask)), [True, True, False])
