"""Which points are chosen, and that every one left out is counted."""

import dataclasses

import numpy as np
import pytest

from rig3r_jax.exports.choose import choose_points
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.schema import PointMaps, PosedImage, Reconstruction

ROWS, COLUMNS = 8, 12
LENS = Pinhole(np.array([[10.0, 0, 6.5], [0, 11.0, 3.5], [0, 0, 1]]))


def seen(depth, confidence=None, on_image=None) -> Reconstruction:
    """One image of a pinhole with the depths of its pixels along the axis."""
    pixels = np.stack(np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5), axis=-1)
    rays = LENS.rays(pixels)
    depth = np.asarray(depth, np.float64)
    points = PointMaps(
        pixels[None],
        (rays / rays[..., 2:] * depth[..., None])[None],
        depth[None],
        (np.full((ROWS, COLUMNS), 2.0) if confidence is None else confidence)[None],
        (np.ones((ROWS, COLUMNS), bool) if on_image is None else on_image)[None],
        np.zeros((1, ROWS, COLUMNS, 3), np.uint8),
    )
    return Reconstruction((PosedImage("a.jpg", COLUMNS, ROWS, LENS, np.eye(4)),), points=points)


def slanted() -> np.ndarray:
    """Depths of a steep plane through the image: 1 at its right, near 12 at its left."""
    return 1.0 / (0.08 + 0.92 * np.arange(COLUMNS) / (COLUMNS - 1)) * np.ones((ROWS, 1))


ALL = ExportOptions(confident=1.0, edges=None)


def test_no_slant_is_an_edge_and_both_sides_of_a_jump_are():
    reconstruction = seen(slanted())
    assert len(choose_points(reconstruction, dataclasses.replace(ALL, edges=0.01))) == ROWS * COLUMNS
    depth = np.where(np.arange(COLUMNS) < 5, 2.0, 2.5) * np.ones((ROWS, 1))
    chosen = choose_points(seen(depth), dataclasses.replace(ALL, edges=0.05))
    assert chosen.left_out == {"edges": 2 * ROWS}
    assert set(chosen.pixels[:, 0]) == set(np.arange(COLUMNS) + 0.5) - {4.5, 5.5}
    assert choose_points(seen(np.where(depth > 2.2, 2.05, 2.0)), dataclasses.replace(ALL, edges=0.05)).left_out == {}


def test_points_that_are_none_go_first_and_are_counted():
    depth, on_image = np.full((ROWS, COLUMNS), 3.0), np.ones((ROWS, COLUMNS), bool)
    depth[0, 0], depth[1, 1], depth[2, 2], on_image[3] = np.nan, -1.0, np.inf, False
    chosen = choose_points(seen(depth, on_image=on_image), dataclasses.replace(ALL, edges=0.05))
    assert chosen.left_out == {"no point": 3} and len(chosen) == ROWS * COLUMNS - COLUMNS - 3
    assert np.isfinite(chosen.points_world).all()


def test_the_most_confident_share_of_what_is_left_stays():
    confidence = 1.0 + np.arange(ROWS * COLUMNS, dtype=np.float64).reshape(ROWS, COLUMNS)
    sky = np.zeros((ROWS, COLUMNS), bool)
    sky[ROWS // 2 :] = True  # the most confident ones
    options = dataclasses.replace(ALL, confident=0.25, sky={"a.jpg": sky})
    chosen = choose_points(seen(np.full((ROWS, COLUMNS), 3.0), confidence), options)
    half = ROWS * COLUMNS // 2
    assert chosen.left_out == {"sky": half, "confidence": half * 3 // 4}
    np.testing.assert_array_equal(chosen.confidence, 1.0 + np.arange(half * 3 // 4, half))


def test_a_mask_lies_on_the_pixels_of_the_original():
    sky = np.zeros((ROWS, COLUMNS), bool)
    sky[2, 7] = True
    chosen = choose_points(seen(np.full((ROWS, COLUMNS), 3.0)), dataclasses.replace(ALL, sky={"a.jpg": sky}))
    assert chosen.left_out == {"sky": 1} and [7.5, 2.5] not in chosen.pixels.tolist()


@pytest.mark.parametrize(
    "sky, message",
    [
        ({"b.jpg": np.zeros((ROWS, COLUMNS), bool)}, "sky: 'b.jpg' is no image of the reconstruction"),
        ({"a.jpg": np.zeros((COLUMNS, ROWS), bool)}, r"mask of a.jpg has shape \(12, 8\), must have .* 8 rows of 12"),
    ],
)
def test_masks_that_fit_no_image_are_refused(sky, message):
    with pytest.raises(ValueError, match=message):
        choose_points(seen(np.full((ROWS, COLUMNS), 3.0)), dataclasses.replace(ALL, sky=sky))


def test_a_voxel_keeps_its_most_confident_point():
    confidence = 1.0 + np.random.default_rng(0).random((ROWS, COLUMNS))
    reconstruction = seen(np.full((ROWS, COLUMNS), 4.0), confidence)
    chosen = choose_points(reconstruction, dataclasses.replace(ALL, voxel=1.0))
    cells = np.floor(reconstruction.points.points_world.reshape(-1, 3))
    best = {cell: max(confidence.ravel()[(cells == cell).all(1)]) for cell in map(tuple, cells)}
    assert sorted(chosen.confidence) == sorted(best.values())
    assert chosen.left_out == {"voxel": ROWS * COLUMNS - len(best)}


def test_a_budget_is_drawn_by_its_seed_in_the_points_order():
    chosen = choose_points(seen(slanted()), ALL)
    one, same, other = chosen.draw(20, 3), chosen.draw(20, 3), chosen.draw(20, 4)
    np.testing.assert_array_equal(one.points_world, same.points_world)
    assert len(one) == 20 and one.left_out == {"budget": ROWS * COLUMNS - 20}
    assert one.counted() == f"20 points, {ROWS * COLUMNS - 20} more are beyond the budget"
    assert chosen.counted() == f"{ROWS * COLUMNS} points"
    assert not np.array_equal(one.points_world, other.points_world)
    places = [chosen.pixels.tolist().index(pixel) for pixel in one.pixels.tolist()]
    assert places == sorted(set(places))
    assert chosen.draw(None, 0) is chosen and chosen.draw(ROWS * COLUMNS, 0) is chosen


@pytest.mark.parametrize(
    "name, value", [("confident", 0.0), ("confident", 1.1), ("edges", 0.0), ("voxel", -1.0), ("frustum", float("nan")),
                    ("budget", 0), ("sparse_budget", -5)],
)  # fmt: skip
def test_useless_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        ExportOptions(**{name: value})
