import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import baselines, pose
from rig3r_jax.schema import Targets


def straight_world(rng, samples=3, speed=7.5, cameras=3, times=2):
    """Targets of rigs that drive straight along their front camera's z axis, images shuffled."""
    views = cameras * times
    rig_from_camera = np.broadcast_to(np.eye(4), (samples, cameras, 4, 4)).copy()
    rotations = Rotation.from_rotvec(rng.normal(size=(samples * (cameras - 1), 3))).as_matrix()
    rig_from_camera[:, 1:, :3, :3] = rotations.reshape(samples, cameras - 1, 3, 3)
    rig_from_camera[:, 1:, :3, 3] = rng.normal(size=(samples, cameras - 1, 3))
    order = np.stack([rng.permutation(views) for _ in range(samples)])
    camera_index, seconds = order % cameras, (order // cameras) * 0.7
    rig_from_camera = np.take_along_axis(rig_from_camera, camera_index[..., None, None], axis=1)
    world_from_rig = np.broadcast_to(np.eye(4), (samples, views, 4, 4)).copy()
    world_from_rig[..., 2, 3] = speed * seconds
    world_from_camera = world_from_rig @ rig_from_camera
    return Targets(
        depth=np.ones((samples, views, 4, 4), np.float32),
        valid=np.ones((samples, views, 4, 4), bool),
        reference_from_camera=np.linalg.inv(world_from_camera[:, :1]) @ world_from_camera,
        rig_from_camera=rig_from_camera,
        intrinsics=np.broadcast_to(np.eye(3, dtype=np.float32), (samples, views, 3, 3)),
        camera_index=camera_index,
        time=seconds - seconds[:, :1],
    )


@pytest.mark.parametrize("speed", [7.5, 4.0])
def test_straight_rig_is_exact_in_a_straight_world(speed):
    targets = straight_world(np.random.default_rng(0), speed=speed)
    predicted = baselines.straight_rig(targets, speed)
    np.testing.assert_allclose(predicted, targets.reference_from_camera, atol=1e-9)
    scores = pose.summarize(pose.relative_pose_errors(predicted, targets.reference_from_camera))
    assert scores["mAA30_unfolded"] == 100.0


def test_identity_forward_is_exact_for_one_forward_camera_and_knows_no_rig():
    rng = np.random.default_rng(1)
    targets = straight_world(rng, cameras=1, times=4)
    np.testing.assert_allclose(baselines.identity_forward(targets), targets.reference_from_camera, atol=1e-9)
    targets = straight_world(rng)
    hidden = targets.replace(rig_from_camera=np.full_like(targets.rig_from_camera, np.nan))
    np.testing.assert_array_equal(baselines.identity_forward(targets), baselines.identity_forward(hidden))


def test_baselines_need_no_ground_truth_poses():
    targets = straight_world(np.random.default_rng(2))
    hidden = targets.replace(
        reference_from_camera=np.full_like(targets.reference_from_camera, np.nan),
        depth=np.full_like(targets.depth, np.nan),
        camera_index=np.zeros_like(targets.camera_index),
    )
    for baseline in baselines.BASELINES.values():
        np.testing.assert_array_equal(baseline(targets), baseline(hidden))
