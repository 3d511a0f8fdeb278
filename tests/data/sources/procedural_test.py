"""The procedural source: exact geometry, one rig per scene, disjoint splits, all from one seed."""

import dataclasses

import cv2
import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import OUTSIDE, decode_depth, decode_mask
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.procedural.render import render_frames
from rig3r_jax.data.sources.procedural.rigs import draw_rig, draw_rig_pool, fisheye, pinhole
from rig3r_jax.data.sources.procedural.sight import IMAGE_CIRCLE_DEG, lit_pixels, rays_of_tile, sight
from rig3r_jax.data.sources.procedural.source import SPLITS, Procedural
from rig3r_jax.data.sources.procedural.worlds import car_boxes, draw_world, drive
from rig3r_jax.geometry.camera import Brown, Pinhole, Unified

FAR = 200.0


def load(split, index, **options):
    return Procedural(**options).scenes(split)[index][1]()


def image_of(frame):
    return cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float64)


def depth_of(frame):
    return decode_depth(frame.depth).values.astype(np.float64)


def same_rig(scene, other):
    pairs = zip(scene.cameras, other.cameras, strict=False)
    return len(scene.cameras) == len(other.cameras) and all(
        np.array_equal(a.rig_from_camera, b.rig_from_camera) and a.lens == b.lens for a, b in pairs
    )


def drive_through(seed, steps=6, layout_count=3, image_size=64):
    """A world, and the frames of a rig in it: times, world_from_camera, lenses."""
    rng = np.random.default_rng(seed)
    rig = draw_rig(rng, layout_count, image_size)
    times = np.arange(steps) * 0.5
    world = draw_world(rng, times[-1])
    world_from_rig = drive(rng, world, times) @ rig.vehicle_from_rig
    world_from_camera = np.stack([a @ c.rig_from_camera for a in world_from_rig for c in rig.cameras])
    lenses = [c.lens for _ in times for c in rig.cameras]
    return world, np.repeat(times, layout_count), world_from_camera, lenses


def quadratic_entry(a, b, c):
    """Smaller root of a t^2 + 2 b t + c, inf where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b * b >= a * c, (-b - np.sqrt(b * b - a * c)) / a, np.inf)


def box_entry(center, half, yaw, origin, direction):
    """Nearest crossing of one of the six face planes, within the face."""
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    start, ray = turn @ (origin - center), turn @ direction
    nearest = np.inf
    for axis in range(3):
        for plane in (-half[axis], half[axis]):
            t = (plane - start[axis]) / ray[axis]
            others = [i for i in range(3) if i != axis]
            if t > 0 and all(abs(start[i] + t * ray[i]) <= half[i] for i in others):
                nearest = min(nearest, t)
    return nearest


def cast(world, time, origin, direction):
    """Depth along one ray in float64: every primitive in turn. The ray has length 1 along the camera's axis."""
    cars, cars_half, cars_yaw = car_boxes(world, np.array([time]))
    depths = [-origin[2] / direction[2] if direction[2] < 0 else np.inf]
    boxes = list(zip(world.buildings_center, world.buildings_half, world.buildings_yaw, strict=True))
    boxes += list(zip(cars[0], cars_half, cars_yaw[0], strict=True))
    depths += [box_entry(*box, origin, direction) for box in boxes]
    for center, half in zip(world.poles_center, world.poles_half, strict=True):
        offset, ray = (origin - center)[:2], direction[:2]
        t = quadratic_entry(ray @ ray, offset @ ray, offset @ offset - half[0] ** 2)
        depths.append(t if t > 0 and abs(origin[2] + t * direction[2] - center[2]) < half[2] else np.inf)
    for center, half in zip(world.crowns_center, world.crowns_half, strict=True):
        offset, ray = (origin - center) / half, direction / half
        t = quadratic_entry(ray @ ray, offset @ ray, offset @ offset - 1)
        depths.append(t if t > 0 else np.inf)
    return min(depths) if min(depths) < FAR else 0.0


def lenses_of(kind, count, size=64):
    """Lenses of one kind, or of all, of images of 64 pixels."""
    rng = np.random.default_rng(1)
    intrinsics = pinhole(80.0, size)
    kinds = {
        "pinhole": Pinhole(intrinsics),
        "brown": Brown(intrinsics, np.array([-0.2, 0.05, 2e-3, -1e-3, 0.0])),
        "fisheye": fisheye(rng, size),
        "unified": Unified(pinhole(100.0, size) * [[1.1], [1.1], [1.0]], np.array([1.2, -0.05, 0.01, 1e-3, 1e-3])),
    }
    chosen = list(kinds.values()) if kind == "all" else [kinds[kind]]
    return [chosen[i % len(chosen)] for i in range(count)]


@pytest.mark.parametrize("kind", ["pinhole", "all"])
def test_depth_agrees_with_a_float64_caster(kind):
    world, times, world_from_camera, _ = drive_through(seed=5)
    lenses = lenses_of(kind, len(times))
    _, depths = render_frames(world, times, world_from_camera, lenses, 64)
    rng = np.random.default_rng(0)
    expected, rendered = [], []
    while len(expected) < 400:
        n, row, column = rng.integers(len(times)), rng.integers(64), rng.integers(64)
        if not lit_pixels(lenses[n], 64)[row, column]:
            assert depths[n, row, column] == 0
            continue
        ray = lenses[n].rays(np.array([column + 0.5, row + 0.5]))
        length = 1.0 if lenses[n].wide else 1 / ray[2]  # what lies farther than 200 of these is sky
        rotation, center = world_from_camera[n, :3, :3], world_from_camera[n, :3, 3]
        expected.append(length * cast(world, times[n], center, rotation @ ray * length))
        rendered.append(depths[n, row, column])
    expected, rendered = np.array(expected), np.array(rendered, np.float64)
    assert 20 < (expected == 0).sum() < 300  # sky and things are both among the rays
    agrees = abs(rendered - expected) <= 6e-4 * expected  # float16 rounds by up to 4.9e-4
    assert agrees.mean() > 0.99  # rays along a silhouette may go either way


def test_images_of_a_lens_without_distortion_are_those_of_its_pinhole():
    world, times, world_from_camera, pinholes = drive_through(seed=3, steps=2)
    straight = [Brown(lens.intrinsics, np.zeros(5)) for lens in pinholes]
    images, depths = render_frames(world, times, world_from_camera, pinholes, 64)
    others, other_depths = render_frames(world, times, world_from_camera, straight, 64)
    assert (abs(images.astype(int) - others) <= 1).mean() > 0.999
    assert np.isclose(depths.astype(float), other_depths.astype(float), rtol=1e-3).mean() > 0.999


def test_a_pixel_covers_what_its_rays_turn_by():
    tile = np.arange(0, 64 * 64, 37)
    focal = rays_of_tile([Pinhole(pinhole(80.0, 64)), *lenses_of("brown", 1)], 64, tile).focal
    np.testing.assert_allclose(focal[0], pinhole(80.0, 64)[0, 0], rtol=1e-6)  # the same wherever it looks
    lens = fisheye(np.random.default_rng(2), 64)
    middle = int(lens.intrinsics[1, 2]) * 64 + int(lens.intrinsics[0, 2])
    assert abs(sight(lens, 64).focal[middle] / lens.intrinsics[0, 0] - 1) < 1e-2  # pixels per radian


def test_fisheyes_see_the_same_drives_within_their_image_circles():
    options = {"steps": 2, "image_size": 48, "min_cameras": 4, "max_cameras": 4, "image_format": "png"}
    straight, wide, again = (load("train", 1, lenses=kind, **options) for kind in ("pinhole", "fisheye", "fisheye"))
    for frame, other, same in zip(straight.frames, wide.frames, again.frames, strict=True):
        assert frame.time == other.time and np.array_equal(frame.world_from_camera, other.world_from_camera)
        assert (other.image, other.depth, other.mask) == (same.image, same.depth, same.mask) and frame.mask == b""
    u, v = np.meshgrid(np.arange(48) + 0.5, np.arange(48) + 0.5)
    for frame in wide.frames:
        camera = wide.cameras[frame.camera]
        angle = np.degrees(np.arccos(camera.lens.rays(np.stack([u, v], axis=-1))[..., 2]))
        outside = decode_mask(frame.mask) == OUTSIDE
        assert np.array_equal(outside, angle >= IMAGE_CIRCLE_DEG / 2) and 0.1 < outside.mean() < 0.3
        assert not image_of(frame)[outside].any() and not depth_of(frame)[outside].any()
        assert 80 < angle[24, [0, -1]].mean() < 100 and (depth_of(frame)[(angle > 90) & ~outside] > 0).any()
        assert camera.lens.kind == "fisheye" and camera.lens.sees(np.stack([u, v], axis=-1)[~outside]).all()


def test_depth_of_the_ground_is_height_times_focal_over_offset():
    world = draw_world(np.random.default_rng(0), 2.0)
    away = {}
    for name in ("buildings_center", "poles_center", "crowns_center"):
        away[name] = getattr(world, name) + (0.0, 0.0, -500.0)
    cars = dataclasses.replace(world.cars, used=np.zeros(len(world.cars.used), bool))
    level = np.array([[0, 0, 1.0, 3], [-1, 0, 0, -2], [0, -1, 0, 1.7], [0, 0, 0, 1]])
    intrinsics = pinhole(80.0, 48)
    _, depths = render_frames(
        dataclasses.replace(world, cars=cars, **away), np.zeros(1), level[None], [Pinhole(intrinsics)], 48
    )
    below = np.arange(48) + 0.5 - 24.0
    along_axis = np.where(below > 0, 1.7 * intrinsics[1, 1] / np.where(below > 0, below, 1), 0.0)
    across = below / intrinsics[0, 0]
    expected = along_axis[:, None] * np.sqrt(1 + across**2 + across[:, None] ** 2)
    np.testing.assert_allclose(depths[0], expected, rtol=6e-4)


def colour_error(frame, other, camera, other_camera, other_from_camera):
    """Colour differences of the points of one frame in another one, where it sees the same points."""
    depth, image, other_depth, other_image = depth_of(frame), image_of(frame), depth_of(other), image_of(other)
    rows, columns = np.nonzero(depth)
    rays = camera.lens.rays(np.stack([columns + 0.5, rows + 0.5], axis=-1))
    points = rays * depth[rows, columns, None] @ other_from_camera[:3, :3].T + other_from_camera[:3, 3]
    j, i = np.floor(other_camera.lens.project(points)).T
    distance, ahead = np.linalg.norm(points, axis=-1), points[:, 2]
    seen = (i >= 0) & (j >= 0) & (i < other_camera.size[0]) & (j < other_camera.size[1])
    seen &= (distance > 0.5) if other_camera.lens.wide else (ahead > 0.5)
    i, j = i[seen].astype(int), j[seen].astype(int)
    same = abs(other_depth[i, j] - distance[seen]) < 0.03 * distance[seen]
    return abs(other_image[i, j] - image[rows[seen], columns[seen]]).mean(axis=-1)[same], same.mean()


@pytest.mark.parametrize(("index", "lenses"), [(0, "pinhole"), (3, "pinhole"), (3, "fisheye")])
def test_pixels_reproject_onto_their_own_colour(index, lenses):
    options = {
        "lenses": lenses,
        "image_size": 128,
        "image_format": "png",
        "min_cameras": 4,
        "max_cameras": 4,
        "steps": 3,
    }
    scene = load("unseen_rigs", index, **options)
    first, later = scene.frames[0], scene.frames[4]  # the front camera at steps 0 and 1
    camera = scene.cameras[0]
    true = np.linalg.inv(later.world_from_camera) @ first.world_from_camera
    error, share = colour_error(first, later, camera, camera, true)
    assert len(error) > 1500 and share > 0.65
    assert np.median(error) < 8 and (error < 25).mean() > 0.85
    shuffled = np.random.default_rng(0).permutation(image_of(first).reshape(-1, 3))
    assert np.median(error) < 0.3 * np.median(abs(image_of(first).reshape(-1, 3) - shuffled))


@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_scenes_are_a_pure_function_of_the_seed(image_format):
    options = {"steps": 2, "image_size": 32, "image_format": image_format}
    scene, again = (load("train", 3, **options) for _ in range(2))
    assert [dataclasses.astuple(f)[:3] for f in scene.frames] == [dataclasses.astuple(f)[:3] for f in again.frames]
    for frame, other in zip(scene.frames, again.frames, strict=True):
        assert frame.image == other.image and frame.depth == other.depth
        assert np.array_equal(frame.world_from_camera, other.world_from_camera)
    other_seed = load("train", 3, seed=1, **options)
    assert other_seed.frames[0].depth != scene.frames[0].depth


def test_splits_and_worlds_share_nothing():
    assert Procedural().splits() == SPLITS == ("train", "same_rigs", "unseen_rigs")
    options = {"steps": 1, "image_size": 32, "max_cameras": 2}
    loaders = [loader for split in SPLITS for loader in Procedural(**options).scenes(split)[:6]]
    assert len({name for name, _ in loaders}) == 18
    assert len({thunk().frames[0].depth for _, thunk in loaders}) == 18
    assert [len(Procedural(train_worlds=7, test_worlds=3).scenes(s)) for s in SPLITS] == [7, 3, 3]


def test_same_rigs_are_those_of_train_and_unseen_rigs_are_new():
    options = {"steps": 1, "image_size": 16, "fixed_rigs": 4}
    train, same, unseen = ([load(split, i, **options) for i in range(8)] for split in SPLITS)
    for i in range(8):
        assert same_rig(train[i], same[i]) and same_rig(train[i], train[(i + 4) % 8])
        assert not any(same_rig(train[i], train[j]) for j in range(8) if (i - j) % 4)
        if len(unseen[i].cameras) > 1:
            assert not any(same_rig(unseen[i], other) for other in train + unseen[:i])
    pool = [load("train", i, steps=1, image_size=16) for i in range(8)]
    assert {len(scene.cameras) for scene in pool} == {1, 2, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("count", range(1, 9))
def test_a_scene_of_any_number_of_cameras_is_one_moving_rig(count):
    scene = load("unseen_rigs", count, min_cameras=count, max_cameras=count, steps=3, image_size=24)
    assert len(scene.cameras) == count == len({camera.name for camera in scene.cameras})
    assert scene.front_camera == 0 and np.array_equal(scene.cameras[0].rig_from_camera, np.eye(4))
    assert [(f.step, f.camera) for f in scene.frames] == [(s, c) for s in range(3) for c in range(count)]
    for frame in scene.frames:
        camera, front = scene.cameras[frame.camera], scene.frames[frame.step * count]
        expected = front.world_from_camera @ camera.rig_from_camera
        np.testing.assert_allclose(frame.world_from_camera, expected, atol=1e-9)
        rotation = frame.world_from_camera[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) > 0 and frame.time == front.time
        assert camera.size == image_of(frame).shape[:2] == depth_of(frame).shape == (24, 24)
        field_of_view = np.degrees(2 * np.arctan(12 / camera.lens.intrinsics[0, 0]))
        assert 60 <= field_of_view <= 100 and (depth_of(frame) > 0).any()
    gaps = np.diff([frame.time for frame in scene.frames[::count]])
    assert scene.frames[0].time == 0 and (abs(gaps - 0.5) <= 0.051).all()


def test_drives_keep_their_speed_and_stay_clear_of_everything():
    turned = []
    for seed in range(60):
        world, times, world_from_camera, _ = drive_through(seed, steps=9, layout_count=1 + seed % 8)
        count = 1 + seed % 8
        centers = world_from_camera[:, :3, 3]
        front = centers[::count]
        speed = np.linalg.norm(np.diff(front, axis=0), axis=-1) / 0.5
        assert (speed > 4.0).all() and (speed < 11.5).all()
        ahead = world_from_camera[::count, :3, 2]
        turned.append(np.degrees(np.arccos(np.clip(ahead[0] @ ahead[-1], -1, 1))))
        cars, cars_half, cars_yaw = car_boxes(world, times)
        shape = (len(times), *world.buildings_center.shape)
        boxes = np.concatenate([np.broadcast_to(world.buildings_center, shape), cars], axis=1)
        half = np.concatenate([world.buildings_half, cars_half])
        yaw = np.concatenate([np.broadcast_to(world.buildings_yaw, shape[:2]), cars_yaw], axis=1)
        offset = centers[:, None] - boxes
        along = np.cos(yaw) * offset[..., 0] + np.sin(yaw) * offset[..., 1]
        across = np.cos(yaw) * offset[..., 1] - np.sin(yaw) * offset[..., 0]
        gap = np.maximum(abs(np.stack([along, across], axis=-1)) - half[:, :2], 0)
        beside = np.hypot(gap[..., 0], gap[..., 1])[boxes[..., 2] > 0]
        assert beside.min() > 0.3
    assert np.percentile(turned, 20) < 15 and np.percentile(turned, 80) > 30  # straight and winding roads


def test_images_of_other_cameras_and_steps_differ():
    scene = load("train", 4, min_cameras=5, max_cameras=5, steps=3)
    images = np.stack([image_of(frame) for frame in scene.frames])
    assert images.std(axis=(1, 2, 3)).min() > 10  # no blank image
    differences = abs(images[:, None] - images[None]).mean(axis=(2, 3, 4))
    assert differences[~np.eye(len(images), dtype=bool)].min() > 5


def test_bad_options_are_all_named():
    with pytest.raises(ValueError, match="(?s)steps=0.*image_format='gif'"):
        Procedural(steps=0, image_format="gif")
    with pytest.raises(ValueError, match="lenses='wide' must be one of pinhole, fisheye"):
        Procedural(lenses="wide")
    with pytest.raises(ValueError, match="min_cameras=5.*max_cameras=3"):
        Procedural(min_cameras=5, max_cameras=3)
    with pytest.raises(ValueError, match="max_cameras=9 must be in 1..8$"):
        Procedural(max_cameras=9)
    with pytest.raises(ValueError, match="seed='0' must be a whole number"):
        make_source("procedural", "", {"seed": "0"})
    with pytest.raises(ValueError, match="9 cameras"):
        draw_rig(np.random.default_rng(0), 9, 64)


def test_layouts_can_be_chosen():
    options = {"train_worlds": 0, "test_worlds": 1, "layouts": ("surround",), "min_cameras": 3, "max_cameras": 8}
    rng = np.random.default_rng(0)
    assert {draw_rig(rng, count, 32, ("surround", "fan")).layout for count in (3, 4, 5) * 9} == {"surround", "fan"}
    for rig in draw_rig_pool(rng, 6, 3, 8, 32, options["layouts"]):
        yaw = [np.arctan2(*camera.rig_from_camera[[0, 2], 2]) for camera in rig.cameras]
        gaps = np.diff(np.sort(np.degrees(yaw)))
        np.testing.assert_allclose(gaps, 360 / len(rig.cameras), atol=12)  # all around, evenly but for the mounting
    with pytest.raises(ValueError, match="none takes 2 cameras"):
        Procedural(**{**options, "min_cameras": 2})
    with pytest.raises(ValueError, match="layouts=.'ring',. must name some of single"):
        Procedural(layouts=("ring",))
    with pytest.raises(ValueError, match="no layout of stereo takes 5 cameras"):
        draw_rig(rng, 5, 32, ("stereo",))
