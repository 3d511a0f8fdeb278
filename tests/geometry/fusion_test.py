"""Windows joined into one reconstruction: exact recovery, what is held, scale, gauge, outliers, derivatives, errors."""

import dataclasses
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion import residuals
from rig3r_jax.geometry.fusion.fuse import FuseOptions, fuse
from rig3r_jax.geometry.fusion.initial import State, closed_form
from rig3r_jax.geometry.fusion.optimum import System
from rig3r_jax.geometry.fusion.problem import Constraints, ScaleLink, WindowPoses, problem_of
from tests.rig_drives import RigDrive, exp, log, similar


def drive(seed=0, steps=6, cameras=3):
    rng = np.random.default_rng(seed)
    return rng, RigDrive.of(rng, steps, cameras)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("rig", [False, True])
@pytest.mark.parametrize("poses", [(), (4,), (4, 13), (0, 5, 17)])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("iterations", [0, 100])
def test_exact_predictions_give_the_exact_cameras(many, rig, poses, held, iterations):
    rng, true = drive()
    windows = true.windows(rng, *((9, 6) if many else (18, 18)))
    options = FuseOptions(max_iterations=iterations)
    fused = fuse(windows, true.known(rig, poses, held=held), options)
    source = "given poses" if len(poses) > 1 else "rig baselines" if rig else "none"
    assert (fused.scale_source, fused.metric, fused.converged) == (source, source != "none", True)
    expected = true.world_from_camera if poses else true.first_from_camera
    if fused.metric:
        np.testing.assert_allclose(fused.world_from_camera, expected, atol=1e-9)
    else:
        assert fused.scale[0] == 1.0
        assert similar(fused.world_from_camera, true.world_from_camera) < 1e-9
    if poses and held:
        np.testing.assert_array_equal(fused.world_from_camera[list(poses)], expected[list(poses)])
    for number, window in enumerate(windows):  # a point of a window lies where the result says
        centers = fused.scale[number] * window.window_from_camera[:, :3, 3]
        there = rigid.apply(fused.world_from_window[number], centers)
        np.testing.assert_allclose(there, fused.world_from_camera[window.images, :3, 3], atol=1e-8)
        assert fused.residuals[number].max() < 1e-6 and fused.weights[number].min() > 0.999


def test_a_rig_is_obeyed_exactly_whatever_the_noise():
    rng, true = drive(1)
    fused = fuse(true.windows(rng, 9, 6, 0.02), true.known(rig=True))
    rig_from_world = rigid.invert(fused.world_from_camera @ rigid.invert(true.rig_from_camera))
    for step in range(6):
        poses = rig_from_world[true.step == step]
        np.testing.assert_allclose(poses, np.broadcast_to(poses[0], poses.shape), atol=1e-12)
    np.testing.assert_allclose(fused.world_from_camera[0], np.eye(4), atol=1e-12)


def test_a_given_scale_is_held_and_a_link_measures():
    rng, true = drive(2)
    windows = true.windows(rng, 9, 6)
    scales = fuse(windows, true.known(rig=True)).scale
    held = [dataclasses.replace(windows[0], scale=float(scales[0])), *windows[1:]]
    fused = fuse(held, true.known())
    assert fused.scale_source == "given scale" and fused.scale[0] == pytest.approx(scales[0], rel=1e-15)
    np.testing.assert_allclose(fused.world_from_camera, true.first_from_camera, atol=1e-9)
    link = ScaleLink(None, 2, float(np.log(scales[2])), 0.01)
    linked = fuse(windows, true.known(scale_links=[link]))
    assert linked.scale_source == "given scale"
    np.testing.assert_allclose(linked.world_from_camera, true.first_from_camera, atol=1e-9)


def test_a_link_joins_the_units_of_windows_that_share_one_place():
    rng, true = drive(3)
    windows = [true.window(rng, range(0, 8)), true.window(rng, range(7, 18))]
    with pytest.raises(ValueError, match="length unit of 1 windows cannot be told, window 1 first"):
        fuse(windows, true.known())
    scales = fuse(windows, true.known(rig=True)).scale
    link = ScaleLink(0, 1, float(np.log(scales[1] / scales[0])), 0.02)
    assert similar(fuse(windows, true.known(scale_links=[link])).world_from_camera, true.world_from_camera) < 1e-9


def test_windows_that_share_steps_but_no_image_are_joined_by_the_rig():
    rng, true = drive(4)
    camera = np.arange(18) % 3
    windows = [true.window(rng, np.flatnonzero(camera != 2)), true.window(rng, np.flatnonzero(camera != 0))]
    windows[1] = true.window(rng, np.flatnonzero((camera == 2) | (camera == 1) & (true.step == 5)))
    fused = fuse(windows, true.known(rig=True))
    np.testing.assert_allclose(fused.world_from_camera, true.first_from_camera, atol=1e-9)


def test_an_image_in_no_window_follows_from_its_rig():
    rng, true = drive(5)
    seen = np.delete(np.arange(18), [7, 11])
    fused = fuse([true.window(rng, seen)], true.known(rig=True))
    np.testing.assert_allclose(fused.world_from_camera, true.first_from_camera, atol=1e-9)


def test_held_poses_off_their_rig_stay_and_place_the_rig():
    rng, true = drive(6)
    moved = true.world_from_camera.copy()
    moved[3] = moved[3] @ exp(np.full((1, 6), 0.01))[0]
    known = dataclasses.replace(true.known(rig=True, poses=(3, 4, 16)), world_from_camera=moved)
    fused = fuse(true.windows(rng, 9, 6), known)
    np.testing.assert_array_equal(fused.world_from_camera[[3, 4, 16]], moved[[3, 4, 16]])
    assert 1e-3 < np.abs(fused.world_from_camera[5] - true.world_from_camera[5]).max() < 0.05


def test_refining_moves_wrong_poses_and_holding_does_not():
    rng, true = drive(7)
    moved = true.world_from_camera.copy()
    moved[9] = moved[9] @ exp(np.array([[0.3, 0.2, -0.4, 0.1, 0.05, 0.1]]))[0]
    windows, poses = true.windows(rng, 9, 6, 0.001), (0, 3, 9, 14, 17)
    held, free = (
        fuse(windows, dataclasses.replace(true.known(poses=poses, held=held), world_from_camera=moved))
        for held in (True, False)
    )
    np.testing.assert_array_equal(held.world_from_camera[9], moved[9])
    assert np.linalg.norm(free.world_from_camera[9, :3, 3] - true.world_from_camera[9, :3, 3]) < 0.05
    assert free.covariance[9].any() and not held.covariance[9].any()


def test_the_windows_own_origin_may_be_exact():
    """A window whose first image has zeros for a covariance sits where the result has that image; else it does not."""
    rng, true = drive(8)
    exact, uncertain = [], []
    for start in (0, 6):
        window = true.window(rng, range(start, start + 12), 0.005)
        poses, covariance = rigid.invert(window.window_from_camera[0]) @ window.window_from_camera, window.covariance
        uncertain.append(WindowPoses(window.images, poses, covariance))
        exact.append(WindowPoses(window.images, poses, covariance * (np.arange(12) > 0)[:, None, None]))
    off = []
    for windows in (exact, uncertain):
        fused = fuse(windows, true.known(rig=True))
        assert fused.converged
        first = fused.world_from_camera[[window.images[0] for window in windows]]
        off.append(np.linalg.norm(log(rigid.invert(fused.world_from_window) @ first), axis=-1))
    assert off[0].max() < 2e-4 and off[1].min() > 10 * off[0].max()


@pytest.mark.parametrize("rig", [False, True])
@pytest.mark.parametrize("stated", [False, True])
def test_gross_outliers_are_outvoted_and_named(rig, stated):
    rng, true = drive(9, steps=8)
    wild = [[10], [11], [], [13]]  # each is in three windows or four: two cannot outvote each other
    spans = [range(0, 15), range(3, 18), range(6, 21), range(9, 24)]
    windows = [true.window(rng, span, 0.002, off, stated) for span, off in zip(spans, wild, strict=True)]
    fused = fuse(windows, true.known(rig))
    for window, off, weights in zip(windows, wild, fused.weights, strict=True):
        named = np.isin(window.images, off)
        assert (weights[named] < 0.1).all() and np.quantile(weights[~named], 0.1) > 0.2
    good = np.delete(np.arange(24), np.arange(21, 24))
    assert similar(fused.world_from_camera[good], true.world_from_camera[good]) < 0.05
    assert (fused.noise is None) == stated and (fused.covariance is None) != stated


def test_a_wrong_loop_window_is_outvoted():
    rng, true = drive(10, steps=12)
    windows = true.windows(rng, 12, 3, 0.003)
    wrong = true.window(rng, [0, 1, 2, 33, 34, 35], 0.003)
    poses = wrong.window_from_camera.copy()
    poses[3:] = exp(np.array([[3.0, -2.0, 1.0, 0.5, 0.4, 0.2]])) @ poses[3:]
    wrong = dataclasses.replace(wrong, window_from_camera=poses)
    without, joined = (fuse(list(w), true.known(rig=True)) for w in (windows, [*windows, wrong]))
    assert np.abs(joined.world_from_camera - without.world_from_camera).max() < 0.05
    assert joined.weights[-1].min() < 0.01


@hypothesis.settings(max_examples=5)
@hypothesis.given(seed=strategies.integers(0, 1000), rig=strategies.booleans())
def test_neither_order_nor_names_nor_frames_of_windows_count(seed, rig):
    rng, true = drive(11)
    windows = true.windows(rng, 9, 6, 0.005)
    here = fuse(windows, true.known(rig))
    rng = np.random.default_rng(seed)
    order = np.concatenate([[0], 1 + rng.permutation(17)])  # new number of every image; image 0 is the world
    there_true = RigDrive(*(array[np.argsort(order)] for array in dataclasses.astuple(true)))
    there = []
    for window in windows:
        shuffled = rng.permutation(len(window.images))
        poses = exp(rng.normal(size=(1, 6)))[0] @ window.window_from_camera[shuffled]
        there.append(WindowPoses(order[window.images[shuffled]], poses, window.covariance[shuffled]))
    moved = fuse([there[number] for number in (0, *(1 + rng.permutation(len(there) - 1)))], there_true.known(rig))
    assert similar(moved.world_from_camera[order], here.world_from_camera) < 1e-4
    assert moved.cost == pytest.approx(here.cost, rel=1e-5)


def test_the_unit_of_a_window_does_not_count():
    rng, true = drive(12)
    windows = true.windows(rng, 9, 6, 0.005)
    unit = np.diag([7.0] * 3 + [1.0] * 3)
    poses = windows[1].window_from_camera.copy()
    poses[:, :3, 3] *= 7.0
    other = [windows[0], WindowPoses(windows[1].images, poses, unit @ windows[1].covariance @ unit), *windows[2:]]
    here, there = (fuse(w, true.known(rig=True)) for w in (windows, other))
    np.testing.assert_allclose(there.world_from_camera, here.world_from_camera, atol=1e-5)
    np.testing.assert_allclose(there.scale[1], here.scale[1] / 7, rtol=1e-5)


@pytest.mark.parametrize("rig", [False, True])
def test_derivatives_are_finite_differences(rig):
    rng, true = drive(13)
    problem = problem_of(true.windows(rng, 9, 6, 0.1), true.known(rig, poses=(2, 8, 12), held=False), 0.02, 1.0)
    state, _ = closed_form(problem)
    state = State(state.log_scale + [*(0.1 * rng.normal(size=problem.window_count)), 0.0], *state[1:])
    carrier = np.full(len(problem.fixed), -1)
    carrier[::2] = 0  # carried or not, the first order is the same
    _, by_window, by_body = residuals.residuals(problem, state)
    step = 1e-6

    def moved(axis, sign, bodies):
        steps = [np.zeros((problem.window_count + 1, 7)), np.zeros((len(problem.fixed), 6))]
        steps[bodies][:, axis] = sign * step
        return residuals.residuals(problem, residuals.moved(state, *steps, carrier if bodies else carrier * 0 - 1))[0]

    for bodies, jacobian in enumerate((by_window, by_body)):
        for axis in range(jacobian.shape[-1]):
            difference = (moved(axis, 1, bodies) - moved(axis, -1, bodies)) / (2 * step)
            np.testing.assert_allclose(jacobian[..., axis], difference, atol=2e-6)


def test_carried_bodies_make_the_same_step_to_first_order():
    rng, true = drive(14)
    problem = problem_of(true.windows(rng, 9, 6, 0.1), true.known(), 0.02, 1.0)
    state, _ = closed_form(problem)
    steps = [rng.normal(size=(problem.window_count + 1, 7)), rng.normal(size=(len(problem.fixed), 6))]
    alone = np.full(len(problem.fixed), -1)
    apart = []
    for size in (1e-3, 1e-4):
        small = [size * array for array in steps]
        carried, not_carried = (residuals.moved(state, *small, carrier) for carrier in (alone * 0, alone))
        apart.append(np.abs(carried.world_from_body - not_carried.world_from_body).max())
    assert apart[1] < 0.02 * apart[0]  # of second order


def test_a_step_of_the_whole_world_changes_no_residual():
    rng, true = drive(15)
    problem = problem_of(true.windows(rng, 9, 6, 0.1), true.known(), 0.02, 1.0)
    state, _ = closed_form(problem)
    before, by_window, by_body = residuals.residuals(problem, state)
    # A large similarity of the world, as tangents of every window and body.
    twist, growth = np.array([3.0, -2.0, 1.0, 0.5, -0.4, 0.3]), 0.3
    window_steps, body_steps = np.zeros((problem.window_count + 1, 7)), np.zeros((len(problem.fixed), 6))
    for frames, steps, units in (
        (state.world_from_window, window_steps, np.exp(state.log_scale)),
        (state.world_from_body, body_steps, np.ones(len(body_steps))),
    ):
        turn, place = np.swapaxes(frames[:, :3, :3], -1, -2), frames[:, :3, 3]
        shift = twist[:3] + np.cross(twist[3:], place) + growth * place
        steps[:, :3] = (turn @ shift[..., None])[..., 0] / units[:, None]
        steps[:, 3:6] = turn @ twist[3:]
    window_steps[:, 6] = growth
    first_order = np.einsum("oij,oj->oi", by_window, window_steps[problem.window])
    first_order += np.einsum("oij,oj->oi", by_body, body_steps[problem.body[problem.image]])
    np.testing.assert_allclose(first_order, 0.0, atol=1e-9)
    carrier = np.zeros(len(problem.fixed), int)
    after, *_ = residuals.residuals(problem, residuals.moved(state, window_steps, body_steps, carrier))
    np.testing.assert_allclose(after, before, atol=1e-9)


def test_marginals_are_blocks_of_the_dense_inverse():
    rng, true = drive(16)
    problem = problem_of(true.windows(rng, 9, 6, 0.01), true.known(rig=True), 0.02, 1.0)
    state, _ = closed_form(problem)
    fixed = problem.fixed.copy()
    fixed[0] = True
    system = System.of(problem, np.ones(problem.window_count, bool), fixed, 3.55)
    of_body, sigmas = system.marginals(state, np.ones(len(problem.window)))
    _, by_window, by_body = residuals.residuals(problem, state)
    count = 7 * problem.window_count
    dense = np.zeros((6 * len(by_window), count + 6 * len(fixed)))
    for row, (window, image) in enumerate(zip(problem.window, problem.image, strict=True)):
        dense[6 * row : 6 * row + 6, 7 * window : 7 * window + 7] = by_window[row]
        start = count + 6 * problem.body[image]
        dense[6 * row : 6 * row + 6, start : start + 6] = by_body[row]
    dense = np.delete(dense, np.arange(count, count + 6), axis=1)
    trust = np.zeros((len(dense), len(dense)))
    for row, information in enumerate(system.information):
        trust[6 * row : 6 * row + 6, 6 * row : 6 * row + 6] = information
    inverse = np.linalg.inv(dense.T @ trust @ dense)
    np.testing.assert_allclose(sigmas**2, np.diagonal(inverse)[6:count:7], rtol=1e-6)
    assert not of_body[0].any()
    for body in range(1, len(fixed)):
        rows = slice(count + 6 * body - 6, count + 6 * body)
        np.testing.assert_allclose(of_body[body], inverse[rows, rows], atol=1e-6 * np.abs(inverse[rows, rows]).max())


@pytest.mark.parametrize("rig", [False, True])
def test_covariances_predict_the_spread_of_the_errors(rig):
    squares = []
    for seed in range(24):
        rng, true = drive(100 + seed, steps=5, cameras=2)
        windows = true.windows(rng, 6, 4, 0.003)
        poses = () if rig else (0, 9)  # what defines the frame and the unit without an error of its own
        fused = fuse(windows, true.known(rig, poses))
        expected = true.first_from_camera if rig else true.world_from_camera
        moving = fused.covariance.any(axis=(-2, -1))
        errors = log(rigid.invert(fused.world_from_camera[moving]) @ expected[moving])
        squares.append(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(fused.covariance[moving]), errors).mean())
    # Chi-square of 6: mean 6. Images of one draw are correlated: about as many draws of spread sqrt(12) each.
    assert np.mean(squares) == pytest.approx(6.0, abs=3 * np.sqrt(12 / 24))


def test_a_thousand_images_take_seconds():
    rng, true = drive(17, steps=200, cameras=5)
    windows = true.windows(rng, 16, 7, 0.005)
    start = time.process_time()
    fused = fuse(windows, true.known(rig=True))
    assert time.process_time() - start < 60  # 3 s on an idle core
    assert fused.converged and len(windows) > 140 and fused.covariance.shape == (1000, 6, 6)


def spoiled(windows, number, **changes):
    arrays = {name: np.array(getattr(windows[number], name)) for name in changes}
    for name, (where, value) in changes.items():
        arrays[name][where] = value
    return [dataclasses.replace(w, **arrays) if n == number else w for n, w in enumerate(windows)]


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"images": (0, 7)}, r"window 1: its images are .*give each once"),
        ({"images": (0, 99)}, r"window 1: its images are .*of 0..17"),
        ({"window_from_camera": (2, np.nan)}, "window 1, image 8: the predicted camera"),
        ({"window_from_camera": (2, 2 * np.eye(4))}, "window 1, image 8: the predicted camera"),
        ({"covariance": (2, np.nan)}, "window 1, image 8: its covariance"),
        ({"covariance": (2, np.ones((6, 6)))}, "window 1, image 8: its covariance"),
    ],
)
def test_impossible_windows_are_named(changes, match):
    rng, true = drive(18)
    windows = true.windows(rng, 9, 6, 0.01)
    with pytest.raises(ValueError, match=match):
        fuse(spoiled(windows, 1, **changes), true.known())


def test_what_nothing_joins_is_told():
    rng, true = drive(19)
    apart = [true.window(rng, range(0, 6)), true.window(rng, range(3, 9)), true.window(rng, range(9, 18))]
    with pytest.raises(ValueError, match="length unit of 1 windows|2 parts"):
        fuse(apart, true.known())
    scaled = [dataclasses.replace(window, scale=1.0) for window in apart]
    with pytest.raises(ValueError, match="2 parts that share neither image nor rig step: windows 0, 1 with images 0"):
        fuse(scaled, true.known())
    with pytest.raises(ValueError, match="9 images are in no window and have no given pose, image 9 first"):
        fuse(apart[:2], true.known())
    np.testing.assert_allclose(
        fuse(apart, true.known(poses=(0, 5, 10, 16))).world_from_camera, true.world_from_camera, atol=1e-9
    )


@pytest.mark.parametrize(
    "windows, known, match",
    [
        ([], Constraints(3), "no window to join"),
        (None, Constraints(18, step=np.zeros(18, int)), "step and rig_from_camera go together"),
        (None, Constraints(18, has_pose=np.zeros(18, bool)), "world_from_camera and has_pose go together"),
        (None, Constraints(18, scale_links=[ScaleLink(0, 9, 0.0, 1.0)]), "must join two of 3 windows"),
        (None, Constraints(18, scale_links=[ScaleLink(0, 1, 0.0, 0.0)]), "positive sigma"),
    ],
)
def test_other_bad_input_is_refused(windows, known, match):
    rng, true = drive(20)
    with pytest.raises(ValueError, match=match):
        fuse(true.windows(rng, 9, 6) if windows is None else windows, known)
    with pytest.raises(ValueError, match="'tukey'"):
        fuse(true.windows(rng, 9, 6), true.known(), FuseOptions(kernel="tukey"))


def test_rigs_without_baselines_tell_no_scale():
    rng, true = drive(21)
    mounts = true.rig_from_camera.copy()
    world_from_rig = true.world_from_camera @ rigid.invert(mounts)
    mounts[:, :3, 3] = mounts[0, :3, 3]
    turning = RigDrive(world_from_rig @ mounts, true.step, mounts)
    fused = fuse(turning.windows(rng, 9, 3), turning.known(rig=True))
    assert fused.scale_source == "none" and not fused.metric


def test_baselines_that_no_window_sees_are_told():
    rng, true = drive(22, cameras=2)
    windows = [true.window(rng, np.arange(camera, 12, 2)) for camera in range(2)]
    with pytest.raises(ValueError, match="none holds two of them at one step"):
        fuse(
            [dataclasses.replace(windows[0]), windows[1]], true.known(rig=True, scale_links=[ScaleLink(0, 1, 0.0, 1.0)])
        )
