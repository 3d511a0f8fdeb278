"""Samples of sets without order: frames of a sample show the same things, and every frame can be drawn."""

import collections
import dataclasses

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from rig3r_jax.data.covisibility import WHOLE, covisibility
from rig3r_jax.data.frame_bytes import NO_POINTS, decode_depth, encode_depth
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.records import example_to_scene, frame_to_example, scene_features, scene_to_example
from rig3r_jax.data.sampling import can_fill, draw_frames
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, RigCamera, Scene, SparseDepth
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.geometry.camera import Pinhole
from tests.data.scenes import encode, rigid

SIZE, FOCAL = (48, 64), 40.0
IMAGE = encode(np.zeros((*SIZE, 3), np.uint8))
INTRINSICS = np.array([[FOCAL, 0, 32], [0, FOCAL, 24], [0, 0, 1]])
WALL = 5.0  # metres before all cameras; an image shows 8 x 6 metres of it


def photographs(places, depth="dense", shift=0.0):
    """Photographs, from places (x, y) along a wall, of which one sees what lies within 4 m to its sides."""
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-10, 60, 4000), rng.uniform(-3, 3, 4000), np.full(4000, WALL)], axis=1)
    columns, rows = np.meshgrid(np.arange(SIZE[1]) + 0.5 - 32, np.arange(SIZE[0]) + 0.5 - 24)
    distances = WALL * np.sqrt(columns**2 + rows**2 + FOCAL**2) / FOCAL
    frames = []
    for step, (x, y) in enumerate(places):
        offset = points - [x, y, 0]
        pixels = FOCAL * offset[:, :2] / WALL + [32, 24]
        seen = ((pixels >= 0) & (pixels < SIZE[::-1])).all(axis=1)
        known = {
            "dense": DenseDepth((distances + shift * (step % 2)).astype(np.float32)),
            "sparse": SparseDepth(
                pixels[seen].astype(np.float32), np.linalg.norm(offset[seen], axis=1).astype(np.float32)
            ),
            "none": NO_POINTS,
        }[depth]
        frames.append(Frame(0, float(step), step, rigid(np.eye(3), (x, y, 0)), IMAGE, encode_depth(known)))
    camera = RigCamera("camera", Pinhole(INTRINSICS), SIZE, np.eye(4))
    return Scene("photographs", (camera,), 0, tuple(frames), ordered=False)


def spread(count=12, seed=1, apart=2.0):
    """Places along the wall, in no order."""
    return [(apart * place, 0.0) for place in np.random.default_rng(seed).permutation(count)]


@pytest.mark.parametrize("depth, tolerance", [("dense", 0.05), ("sparse", 0.15)])
def test_shares_are_those_of_the_wall(depth, tolerance):
    places = spread()
    shares = covisibility(photographs(places, depth)) / WHOLE
    x = np.array(places)[:, 0]
    expected = np.maximum(1 - np.abs(x[:, None] - x) / 8, 0)
    np.testing.assert_allclose(shares, expected, atol=tolerance)
    assert (shares == shares.T).all() and (np.diag(shares) == 1).all()


def test_points_of_unknown_depth_are_no_points():
    scene = photographs(spread(4), "sparse")
    frames = []
    for frame in scene.frames:
        depth = decode_depth(frame.depth)
        pixels = np.concatenate([depth.pixels, [[1.5, 1.5], [2.5, 2.5], [3.5, 3.5]]]).astype(np.float32)
        depths = np.concatenate([depth.depths, [0, np.nan, np.inf]]).astype(np.float32)
        frames.append(dataclasses.replace(frame, depth=encode_depth(SparseDepth(pixels, depths))))
    np.testing.assert_array_equal(covisibility(dataclasses.replace(scene, frames=tuple(frames))), covisibility(scene))


def test_without_depth_neighbours_share_more_than_others():
    places = spread()
    shares, x = covisibility(photographs(places, "none")), np.array(places)[:, 0]
    apart = np.abs(x[:, None] - x)
    assert shares[apart == 2].min() > shares[apart == 6].max() > shares[apart == 14].max()
    back = photographs(places, "none")
    turned = rigid(np.diag([-1.0, 1, -1]), back.frames[0].world_from_camera[:3, 3])  # looks away from the wall
    frames = (dataclasses.replace(back.frames[0], world_from_camera=turned), *back.frames[1:])
    assert not covisibility(dataclasses.replace(back, frames=frames))[0, 1:].any()


def test_what_lies_behind_other_things_is_not_shared():
    """Every second photograph shows something 3 m beyond the wall that the others show."""
    shares = covisibility(photographs([(0.0, 0.0)] * 4, shift=3.0))
    assert shares[0, 2] == shares[1, 3] == WHOLE and not shares[0, 1] and not shares[2, 3]


def links(scene, least):
    return covisibility(scene) >= least * WHOLE


@pytest.mark.parametrize("depth", ["dense", "sparse", "none"])
def test_drawn_frames_show_the_same_things_and_all_are_drawn(depth):
    scene = photographs(spread(), depth)
    linked = links(scene, 0.3)
    scene = dataclasses.replace(scene, covisible=covisibility(scene))
    counts, references = collections.Counter(), collections.Counter()
    for seed in range(300):
        drawn = draw_frames(scene, np.random.default_rng(seed), 4, 8, covisible=0.3)
        assert drawn == draw_frames(scene, np.random.default_rng(seed), 4, 8, covisible=0.3)
        assert len(set(drawn)) == 4
        assert connected_components(linked[np.ix_(drawn, drawn)])[0] == 1
        counts.update(drawn)
        references[drawn[0]] += 1
    assert len(counts) == len(references) == len(scene.frames) and min(counts.values()) > 30
    if depth != "none":  # by time steps neighbours in the list are drawn, which stand anywhere along the wall
        by_steps = [draw_frames(scene, np.random.default_rng(seed), 4, 8) for seed in range(100)]
        assert sum(connected_components(linked[np.ix_(drawn, drawn)])[0] > 1 for drawn in by_steps) > 20


def test_groups_too_small_for_a_sample_are_left_alone_and_named():
    places = [*spread(6), (100.0, 0.0), (101.0, 0.0)]
    scene = photographs(places)
    drawn = {i for seed in range(60) for i in draw_frames(scene, np.random.default_rng(seed), 3, 8, covisible=0.1)}
    assert drawn == set(range(6))
    assert can_fill(scene, 6, 8, covisible=0.1) and not can_fill(scene, 7, 8, covisible=0.1)
    assert can_fill(scene, 8, 8, covisible=0.0)  # by time steps, as of recordings
    with pytest.raises(
        BadRecord, match="at most 6 of its 8 frames, .* to a share of 0.1, for 7 views; lower num_views"
    ):
        draw_frames(scene, np.random.default_rng(0), 7, 8, covisible=0.1)
    with pytest.raises(BadRecord, match="too few for 2 views"):
        draw_frames(scene, np.random.default_rng(0), 2, 8, min_cameras=2, covisible=0.1)


def test_ordered_scenes_are_drawn_as_before():
    scene = dataclasses.replace(photographs(spread()), ordered=True)
    rule = {"num_views": 5, "max_cameras": 3}
    for seed in range(20):
        drawn = draw_frames(scene, np.random.default_rng(seed), **rule, covisible=0.3)
        assert drawn == draw_frames(scene, np.random.default_rng(seed), **rule)


@pytest.mark.parametrize("ordered", [False, True])
def test_records_keep_what_frames_share(ordered):
    scene, features = dataclasses.replace(photographs(spread(5)), ordered=ordered), scene_features()
    example = features.deserialize_example_np(features.serialize_example(scene_to_example(scene, 0)))
    again = example_to_scene(example, lambda number: frame_to_example(scene.frames[number]))
    assert again.ordered == ordered
    if ordered:
        assert again.covisible is None
    else:
        np.testing.assert_array_equal(again.covisible, covisibility(scene))


def test_a_rig_has_an_order_and_shares_are_from_0_to_1():
    scene = photographs(spread(3))
    check_scene(scene)
    second = dataclasses.replace(scene.cameras[0], name="second")
    with pytest.raises(BadRecord, match="has no order and 2 cameras; only one may have none"):
        check_scene(dataclasses.replace(scene, cameras=(*scene.cameras, second)))
    with pytest.raises(ValueError, match="covisible=1.5 must be in \\[0, 1\\]"):
        PipelineOptions(covisible=1.5)
