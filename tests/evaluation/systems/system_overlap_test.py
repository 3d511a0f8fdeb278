"""Overlap of views: what angles and walls make of it, the same as of training's photographs, and parts of the pairs."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.data.covisibility import WHOLE, covisibility
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.overlap import pair_overlaps
from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.evaluation.systems.score import score_scene
from rig3r_jax.geometry.camera import Pinhole

SIZE = (64, 4)  # width, height: too low to lose anything above and below
LENS = Pinhole(np.array([[32.0, 0, 32], [0, 32, 2], [0, 0, 1]]))  # 90 degrees wide


def looking(*degrees):
    """Images from one place, turned to the right by these angles."""
    poses = np.tile(np.eye(4), (len(degrees), 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("y", np.array(degrees)[:, None], degrees=True).as_matrix()
    count = len(degrees)
    return PosedScene(
        "made", "made", poses, tuple(f"{n}.png" for n in range(count)), lenses=(LENS,) * count,
        sizes=np.tile(SIZE, (count, 1)),
    )  # fmt: skip


def walls(*depths):
    """Depth maps along the axis, of columns of equal depth."""
    return tuple(DepthMap.of_image(np.tile(np.asarray(depth, float), (4, 64 // len(depth)))) for depth in depths)


@pytest.mark.parametrize("degrees", [0, 30, 45, 60, 89, 100, 180])
def test_overlap_of_turned_views_is_that_of_their_angles(degrees):
    overlaps = pair_overlaps(looking(0, degrees), 7.0)
    left = np.tan(np.radians(degrees - 45))  # where the other's left edge is, -1 to 1 across
    assert overlaps.percent[0] == pytest.approx(max(0.0, 50 * (1 - left)) if degrees < 90 else 0.0, abs=100 / 16)
    assert overlaps.told_by == "cameras and lenses, at 7 m"


def test_what_a_wall_hides_is_not_shared():
    scene = looking(0, 0, 0)
    scene = dataclasses.replace(scene, depths=walls([10.0] * 4, [2.0, 2.0, 10.0, 10.0], [10.5] * 4))
    overlaps = pair_overlaps(scene, 7.0)
    assert overlaps.told_by == "true depth"
    np.testing.assert_allclose(overlaps.percent, [50, 100, 50], atol=2)  # a depth that is 5% off is the same
    unknown = dataclasses.replace(scene, depths=walls([10.0] * 4, [np.nan, np.nan, 10.0, 10.0], [10.5] * 4))
    assert pair_overlaps(unknown, 7.0).percent[0] == 100  # nothing says that the left half is hidden
    lacking = dataclasses.replace(scene, depths=(*scene.depths[:2], None))
    assert pair_overlaps(lacking, 7.0).told_by == "cameras and lenses, at 7 m"


@pytest.mark.parametrize("nearer, farther", [(2.0, 50.0)])
def test_range_counts_for_cameras_that_are_apart(nearer, farther):
    scene = looking(0, 0)
    scene.world_from_camera[1, 0, 3] = 2.0
    near, far = (pair_overlaps(scene, metres).percent[0] for metres in (nearer, farther))
    assert near < 70 and far > 95


def test_the_same_as_what_photographs_are_drawn_by():
    source = make_source("procedural", "", {"test_worlds": 1, "steps": 2, "image_size": 48, "max_cameras": 3})
    ((_, load), *_) = source.scenes("unseen_rigs")
    scene = load()
    cameras = [scene.cameras[frame.camera] for frame in scene.frames]
    depths = [DepthMap.of_image(decode_depth(frame.depth).values.astype(np.float64)) for frame in scene.frames]
    posed = PosedScene(
        "world", "made", np.stack([frame.world_from_camera for frame in scene.frames]),
        lenses=tuple(camera.lens for camera in cameras), sizes=np.array([camera.size[::-1] for camera in cameras]),
        depths=tuple(dataclasses.replace(depth, along_ray=True) for depth in depths),
    )  # fmt: skip
    expected = 100.0 * covisibility(scene)[np.triu_indices(len(cameras), k=1)] / WHOLE
    percent = pair_overlaps(posed, 10.0).percent
    assert np.ptp(expected) > 25
    # There a place without depth, such as the sky, shows nothing; here it may.
    assert (percent >= expected - 0.5).all() and np.median(np.abs(percent - expected)) < 3


def test_parts_by_overlap_add_up_and_lacks_are_named():
    scene = looking(0, 10, 40, 70, 170)
    measures = score_scene(scene, scene, SystemOptions(overlaps=(5.0, 50.0), align="first")).measures
    counts = [measures.weights[f"overlap {part}/RRA5"] for part in ("under 5%", "5 to 50%", "from 50%")]
    assert sum(counts) == 10 and counts[0] >= 4
    blind = dataclasses.replace(scene, lenses=None)
    scores = score_scene(blind, blind, SystemOptions(align="first"))
    assert scores.measures.reasons["overlap under 5%/RRA5"] == "made states no lenses" and scores.pairs.overlap is None


@pytest.mark.parametrize(
    "change, message",
    [({"overlaps": (50.0, 100.0)}, "give some below 100"), ({"view_range": 0.0}, "view_range is 0.0")],
)
def test_options_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        SystemOptions(**change)
