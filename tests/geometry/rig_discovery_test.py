import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.data.sources.procedural.rigs import draw_rig
from rig3r_jax.data.sources.procedural.source import CAMERA_COUNTS
from rig3r_jax.evaluation.rig import rig_id_accuracy
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_check import check_rig
from rig3r_jax.geometry.rig_discovery import _order, discover_rig


def drawn_rig(rng, layout, count, unit=10.0):
    cameras = np.stack([camera.rig_from_camera for camera in draw_rig(rng, count, 64, (layout,)).cameras])
    cameras[:, :3, 3] /= unit
    return cameras


def stereo(baseline):
    cameras = np.tile(np.eye(4), (2, 1, 1))
    cameras[1, 0, 3] = baseline
    return cameras


def noisy(rng, poses, sigma_length, sigma_deg):
    turns = Rotation.from_rotvec(np.radians(sigma_deg) * rng.normal(size=(len(poses), 3))).as_matrix()
    return poses @ rigid.from_rotation_translation(turns, sigma_length * rng.normal(size=(len(poses), 3)))


def images(rng, cameras, steps, sigma_length=0.0, sigma_deg=0.0):
    """Shuffled predictions in float32, in the rig and in the world of a drive, their cameras and steps."""
    count = len(cameras)
    order = rng.permutation(count * steps)
    camera, step = np.tile(np.arange(count), steps)[order], np.repeat(np.arange(steps), count)[order]
    world_from_rig = np.tile(np.eye(4), (steps, 1, 1))
    world_from_rig[:, :3, :3] = Rotation.from_rotvec(0.1 * np.arange(steps)[:, None] * [0, 1, 0]).as_matrix()
    world_from_rig[:, 2, 3] = 0.2 * np.arange(steps)
    in_rig, in_world = cameras[camera], world_from_rig[step] @ cameras[camera]
    noise = (sigma_length, sigma_deg)
    return *(noisy(rng, poses, *noise).astype(np.float32) for poses in (in_rig, in_world)), camera, step


@pytest.mark.parametrize("known", ["steps", "world", "nothing"])
@pytest.mark.parametrize(
    ("layout", "count"), [(name, count) for name, counts in CAMERA_COUNTS.items() for count in counts]
)
def test_exact_rigs_of_every_layout_are_found(layout, count, known):
    rng = np.random.default_rng(count)
    cameras = drawn_rig(rng, layout, count)
    in_rig, in_world, camera, step = images(rng, cameras, 3)
    given = {"steps": {"step": step}, "world": {"world_from_camera": in_world}, "nothing": {}}[known]
    rig = discover_rig(in_rig, **given)
    assert len(rig.rig_from_camera) == count and rig_id_accuracy(rig.camera, camera) == 1.0
    assert rig.count_certainty > 0.95 and rig.image_certainty.min() > 0.95
    if known == "world":
        assert len(np.unique(rig.step)) == 3 and rig_id_accuracy(rig.step, step) == 1.0
    found = np.stack([rig.rig_from_camera[rig.camera[np.argmax(camera == c)]] for c in range(count)])
    np.testing.assert_allclose(found, cameras, atol=1e-5)


@pytest.mark.parametrize("depth", [2.0, 5.0, 15.0])
def test_a_stereo_pair_6_cm_apart_is_two_cameras_at_any_depth(depth):
    in_rig, in_world, camera, step = images(np.random.default_rng(1), stereo(0.06 / depth), 3)
    for given in ({"step": step}, {"world_from_camera": in_world}, {}):
        rig = discover_rig(in_rig, **given)
        assert len(rig.rig_from_camera) == 2 and rig_id_accuracy(rig.camera, camera) == 1.0


def test_noise_of_2_degrees_and_5_percent_leaves_the_cameras():
    rng, right = np.random.default_rng(2), []
    for layout, count in [(layout, count) for layout, counts in CAMERA_COUNTS.items() for count in counts]:
        cameras = drawn_rig(rng, layout, count)
        size = max(np.sqrt(np.sum(np.var(cameras[:, :3, 3], axis=0))), 0.01)
        in_rig, _, camera, step = images(rng, cameras, 4, 0.05 * size, 2.0)
        right.append(rig_id_accuracy(discover_rig(in_rig, step=step).camera, camera))
    assert np.mean(right) >= 0.95


def test_one_camera_stays_one_at_any_size_of_noise():
    rng, counts = np.random.default_rng(3), []
    for sigma in (0.0, 1e-6, 1e-3, 1e-2):
        for _ in range(3):
            in_rig, *_ = images(rng, stereo(0.1)[:1], 8, sigma, 100 * sigma)
            counts.append(len(discover_rig(in_rig).rig_from_camera))
    assert np.mean(np.array(counts) == 1) >= 0.9


def test_cameras_nearer_than_the_spread_are_said_not_to_be_told_apart():
    in_rig, _, _, step = images(np.random.default_rng(4), stereo(0.06), 6, 0.1, 0.5)
    rig = discover_rig(in_rig, step=step, unit="m")
    assert len(rig.rig_from_camera) == 2  # the steps say so
    assert any("cannot be told apart by one image" in words for words in rig.verdict), rig.verdict
    assert rig.image_certainty.mean() < 0.95


def test_the_covariance_of_the_mean_is_that_of_its_errors():
    rng, squares, squares_in_frame = np.random.default_rng(5), [], []
    cameras = stereo(1.0)

    def square(error, covariance):
        tangent = np.append(error[:3, 3], Rotation.from_matrix(error[:3, :3]).as_rotvec())
        return tangent @ np.linalg.solve(covariance, tangent)

    for _ in range(40):
        in_rig, _, camera, step = images(rng, cameras, 8, 0.01, 0.5)
        rig = discover_rig(in_rig, step=step, camera_count=2)
        true = np.stack([cameras[camera[np.argmax(rig.camera == number)]] for number in range(2)])
        for number, place in enumerate(rig.rig_from_camera):
            squares.append(square(rigid.invert(place) @ true[number], rig.covariance[number]))
        second = rig.frame_from_rig @ rig.rig_from_camera[1]
        error = rigid.invert(second) @ rigid.invert(true[0]) @ true[1]
        squares_in_frame.append(square(error, rig.covariance_in_frame[1]))
        assert not rig.covariance_in_frame[0].any()
    assert 4.8 < np.mean(squares) < 7.5  # 6 where true
    assert 4.6 < np.mean(squares_in_frame) < 7.9
    assert np.trace(rig.covariance_in_frame[1]) > 1.5 * np.trace(rig.covariance[1])


def test_what_is_known_is_kept():
    in_rig, _, camera, step = images(np.random.default_rng(6), stereo(0.05), 5, 0.05, 0.5)
    known = np.where(step < 3, camera + 7, -1)
    rig = discover_rig(in_rig, step=step, camera=known)
    np.testing.assert_array_equal(rig.camera[step < 3], camera[step < 3])
    assert len(discover_rig(in_rig, step=step, camera_count=3).rig_from_camera) == 3
    for count in (0, 11):
        with pytest.raises(ValueError, match=f"camera_count is {count}; 10 images"):
            discover_rig(in_rig, camera_count=count)


def test_a_wrong_prediction_does_not_move_the_mean_and_one_that_is_not_finite_is_left_out():
    in_rig, _, camera, step = images(np.random.default_rng(7), stereo(1.0), 8, 0.005, 0.3)
    in_rig[3] = np.nan
    rig = discover_rig(in_rig, step=step)
    assert rig.camera[3] == -1 and rig.image_certainty[3] == 0
    assert "1 image without a finite prediction left out" in rig.verdict
    with pytest.raises(ValueError, match="none of 2 predicted cameras is finite"):
        discover_rig(np.full((2, 4, 4), np.nan))


@pytest.mark.parametrize("name", ["rig_from_camera", "world_from_camera"])
@pytest.mark.parametrize("spoiled", [2 * np.eye(4), np.diag([1.0, 1, -1, 1]), np.ones((4, 4))])
def test_predictions_that_are_no_rigid_transforms_are_named(name, spoiled):
    in_rig, in_world, *_ = images(np.random.default_rng(7), stereo(1.0), 4)
    {"rig_from_camera": in_rig, "world_from_camera": in_world}[name][5] = spoiled
    with pytest.raises(ValueError, match=f"image 5: the predicted {name} .* is no rigid transform"):
        discover_rig(in_rig, world_from_camera=in_world)


def test_order_of_labels_is_a_permutation_even_where_one_does_not_appear():
    np.testing.assert_array_equal(_order(np.array([3, 3, 0, 1, 0]), 5), [3, 0, 1, 2, 4])


def test_every_camera_of_a_forced_number_has_images():
    in_rig, *_ = images(np.random.default_rng(12), drawn_rig(np.random.default_rng(12), "surround", 4), 3, 0.02, 2.0)
    for count in range(1, 13):
        rig = discover_rig(in_rig, camera_count=count)
        assert set(rig.camera.tolist()) == set(range(count)) and len(rig.rig_from_camera) == count
        assert np.isfinite(rig.image_certainty).all()


def test_one_image_each_leaves_the_spread_open():
    in_rig, *_ = images(np.random.default_rng(8), drawn_rig(np.random.default_rng(8), "surround", 5), 1)
    rig = discover_rig(in_rig, step=np.zeros(5, int))
    assert len(rig.rig_from_camera) == 5 and np.isnan(rig.sigma_length)
    assert any("add time steps" in words for words in rig.verdict)


def turned(cameras, number, degrees, rng):
    axis = rng.normal(size=3)
    moved = cameras.copy()
    moved[number, :3, :3] @= Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    return moved


def test_a_turned_camera_is_found_and_an_untouched_rig_is_not_accused():
    rng, found, alarms = np.random.default_rng(9), 0, 0
    for _ in range(200):
        cameras = drawn_rig(rng, "surround", 6, unit=1.0)
        number = int(rng.integers(6))
        for now in (turned(cameras, number, 1.0, rng), cameras):
            in_rig, _, camera, _ = images(rng, now, 10, 0.01, 0.5)
            in_rig[:, :3, 3] /= 7.0  # another unit
            check = check_rig(cameras, in_rig, camera)
            if now is cameras:
                alarms += bool(check.moved)
            else:
                found += number in check.moved
    assert found >= 180 and alarms < 10  # of 200; two in a hundred are asked for


def test_a_check_says_how_far_and_in_words():
    rng = np.random.default_rng(10)
    cameras = drawn_rig(rng, "surround", 6, unit=1.0)
    now = turned(cameras, 2, 3.0, rng)
    now[2, :3, 3] += [0.2, 0.0, 0.0]
    in_rig, _, camera, _ = images(rng, now, 10, 0.01, 0.2)
    check = check_rig(cameras, in_rig, camera, metric=True)
    assert check.moved == (2,)
    assert check.cameras[2].turn_deg == pytest.approx(3.0, abs=0.4)
    assert check.cameras[2].shift == pytest.approx(0.2, abs=0.03)
    assert check.verdict({2: "left"})[0].startswith("left moved: turned by")
    in_rig, _, camera, _ = images(rng, cameras, 10, 0.01, 0.2)
    assert check_rig(cameras, in_rig, camera).verdict()[0].startswith("no camera moved")
    pair = check_rig(cameras[:2], in_rig[camera < 2], camera[camera < 2])
    assert not pair.moved
    with pytest.raises(ValueError, match="a check wants two cameras"):
        check_rig(cameras, in_rig[:6], camera[:6])


METRES = {"KITTI": 0.54, "EuRoC": 0.11, "T265": 0.064}  # between the cameras of a stereo pair


@pytest.mark.parametrize("metres", METRES.values(), ids=METRES)
@pytest.mark.parametrize("depth", [2.0, 15.0])
def test_pairs_of_usual_baselines_are_two_cameras(metres, depth):
    in_rig, _, camera, _ = images(np.random.default_rng(11), stereo(metres / depth), 4)
    rig = discover_rig(in_rig)
    assert len(rig.rig_from_camera) == 2 and rig_id_accuracy(rig.camera, camera) == 1.0
