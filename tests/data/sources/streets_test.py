"""Worlds of the second kind: exact hits, the same bytes everywhere, smooth drives, what moves is marked."""

import dataclasses
import hashlib

import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import MOVING, decode_depth, decode_mask
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources.procedural.rigs import draw_rig, fisheye, pinhole
from rig3r_jax.data.sources.procedural.scenes import make_drive
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.data.sources.procedural.streets.casting import FAR
from rig3r_jax.data.sources.procedural.streets.drives import MANOEUVRES, draw_motion
from rig3r_jax.data.sources.procedural.streets.furnish import CLEARANCE, distance_to
from rig3r_jax.data.sources.procedural.streets.primitives import ROUND
from rig3r_jax.data.sources.procedural.streets.render import View, render
from rig3r_jax.data.sources.procedural.streets.rigs import LONGEST_DELAY, equip
from rig3r_jax.data.sources.procedural.streets.town import draw_town
from rig3r_jax.data.sources.procedural.streets.traffic import Traffic
from rig3r_jax.data.sources.procedural.streets.world import draw_world
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Pinhole

SIZE = 48
# Of the image and the depth of one camera; whoever changes what worlds look like replaces it.
DIGEST = "ae6a9f2dc20ef5f8"


@pytest.fixture(scope="module")
def worlds():
    """Some worlds with the views of a surround rig and a fisheye at two times."""
    made = []
    for seed in (2, 3, 5, 11):
        rng = np.random.default_rng(seed)
        world, rig = draw_world(rng, 3.0), draw_rig(rng, 4, SIZE, ("surround",))
        lenses = [camera.lens for camera in rig.cameras[:3]] + [fisheye(rng, SIZE)]
        poses = [rig.vehicle_from_rig @ camera.rig_from_camera for camera in rig.cameras]
        views = [
            View(time, world.motion.world_from_vehicle(np.array(time)) @ pose, lens)
            for time in (0.0, 1.7)
            for pose, lens in zip(poses, lenses, strict=True)
        ]
        made.append((world, views, list(render(world, views, SIZE))))
    return made


def entries(table, eye, ray):
    """Where a ray enters each primitive, in float64: by half-spaces and quadrics; inf where it misses."""
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    x, y, z = (eye - table.foot).T
    start = np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=-1)
    way = np.stack([cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], np.full(len(table), ray[2])], axis=-1)
    enter, leave = np.full(len(table), -np.inf), np.full(len(table), np.inf)
    is_round, (half_x, half_y), (form_0, form_1, form_2) = table.kind == ROUND, table.half.T, table.form.T
    flat_sided = ~is_round
    planes = [(0, 0, 1, table.height, True), (0, 0, -1, 0.0, True)]
    planes += [(sign, 0, form_0, half_x, flat_sided) for sign in (1, -1)]
    planes += [(0, sign, form_1, half_y, flat_sided) for sign in (1, -1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        for *normal, most, bounds in planes:
            speed, over = (sum(n * part for n, part in zip(normal, vector.T, strict=True)) for vector in (way, start))
            over = over - most
            enter = np.where(bounds & (speed < 0), np.maximum(enter, -over / speed), enter)
            leave = np.where(bounds & (speed > 0), np.minimum(leave, -over / speed), leave)
            leave[bounds & (speed == 0) & (over > 0)] = -np.inf
        a = way[:, 0] ** 2 + way[:, 1] ** 2 - form_2 * way[:, 2] ** 2
        b = 2 * (start * way)[:, :2].sum(axis=1) - form_1 * way[:, 2] - 2 * form_2 * start[:, 2] * way[:, 2]
        c = start[:, 0] ** 2 + start[:, 1] ** 2 - form_0 - form_1 * start[:, 2] - form_2 * start[:, 2] ** 2
        root = np.sqrt(np.where(b * b > 4 * a * c, b * b - 4 * a * c, np.nan))  # NaN: misses
        roots = np.sort([(-b - root) / (2 * a), (-b + root) / (2 * a)], axis=0)
        enter = np.where(is_round, np.maximum(enter, roots[0]), enter)
        leave = np.where(is_round, np.minimum(leave, roots[1]), leave)
        return np.where((enter > 0.05) & (enter < leave), enter, np.inf)


def ground_entry(town, eye, ray):
    a, b, c, d, e = town.ground
    x, y, z = ray
    square = c * x * x + d * x * y + e * y * y
    slope = a * x + b * y + 2 * c * eye[0] * x + d * (eye[0] * y + eye[1] * x) + 2 * e * eye[1] * y - z
    roots = np.roots([square, slope, town.height(eye[0], eye[1]) - eye[2]])
    real = roots[(abs(roots.imag) < 1e-12) & (roots.real > 0)].real
    return real.min() if len(real) else np.inf


def test_depth_agrees_with_a_float64_caster(worlds):
    rng, expected, rendered = np.random.default_rng(0), [], []
    for world, views, shots in worlds:
        for _ in range(24):
            n, row, column = rng.integers(len(views)), *rng.integers(0, SIZE, 2)
            ray = views[n].lens.rays(np.array([column + 0.5, row + 0.5]))
            if not views[n].lens.sees(np.array([column + 0.5, row + 0.5])) or not shots[n].image[row, column].any():
                continue
            pose = views[n].world_from_camera
            ray, eye = pose[:3, :3] @ ray, pose[:3, 3]
            table, _ = world.at(views[n].time, eye)
            nearest = min([*entries(table, eye, ray), ground_entry(world.town, eye, ray)])
            expected.append(nearest if nearest < FAR else 0.0)
            rendered.append(shots[n].depth[row, column])
    expected, rendered = np.array(expected), np.array(rendered, np.float64)
    assert len(expected) > 70 and 5 < (expected == 0).sum() < 60
    agrees = abs(rendered - expected) <= 2e-4 * expected + 1e-5
    assert agrees.mean() > 0.97  # rays along a silhouette may go either way


def test_points_of_one_camera_lie_where_another_one_at_the_time_sees_them():
    rng = np.random.default_rng(8)
    world = draw_world(rng, 2.0)
    vehicle = world.motion.world_from_vehicle(np.array(0.5))
    places = [rigid.from_rotation_translation(np.eye(3), np.array([x, -1.5, 1.0])) for x in (-0.3, 0.3)]
    lens = Pinhole(pinhole(70.0, 96))
    first, second = render(world, [View(0.5, vehicle @ place, lens) for place in places], 96)
    rows, columns = np.nonzero((first.depth > 0) & (first.depth < 40))
    points = lens.rays(np.stack([columns + 0.5, rows + 0.5], axis=-1)) * first.depth[rows, columns, None]
    there = points - [0.6, 0.0, 0.0]
    pixels = np.floor(lens.project(there)).astype(int)
    inside = ((pixels >= 0) & (pixels < 96)).all(axis=1)
    off = second.depth[pixels[inside, 1], pixels[inside, 0]] / np.linalg.norm(there[inside], axis=1) - 1
    assert inside.mean() > 0.8 and np.mean(abs(off) < 0.02) > 0.8  # the rest is hidden, or ground at a shallow angle
    same = abs(off) < 0.02
    colours = [shot.image.astype(float).mean(axis=-1) for shot in (first, second)]
    from_first, from_second = colours[0][rows, columns][inside], colours[1][pixels[inside, 1], pixels[inside, 0]]
    assert np.corrcoef(from_first[same], from_second[same])[0, 1] > 0.8


def test_an_empty_flat_world_is_height_over_slope():
    world = draw_world(np.random.default_rng(1), 1.0)
    none = Traffic(np.zeros((0, 2)), np.zeros((0, 2)), world.still.rows(np.zeros(0, int)), np.zeros(0, int))
    town = dataclasses.replace(world.town, ground=(0.0,) * 5)
    world = dataclasses.replace(world, town=town, still=world.still.rows(np.zeros(0, int)), traffic=none)
    level = np.array([[0, 0, 1.0, 3], [-1, 0, 0, -2], [0, -1, 0, 1.7], [0, 0, 0, 1]])
    (shot,) = render(world, [View(0.0, level, Pinhole(pinhole(80.0, SIZE)))], SIZE)
    u, v = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    rays = Pinhole(pinhole(80.0, SIZE)).rays(np.stack([u, v], axis=-1))
    below = rays[..., 1] > 0
    expected = np.where(below, 1.7 / np.where(below, rays[..., 1], 1), 0)
    np.testing.assert_allclose(shot.depth, np.where(expected < FAR, expected, 0), rtol=2e-5)


def test_views_do_not_depend_on_those_rendered_beside_them(worlds):
    for world, views, shots in worlds[:2]:
        for view, shot in zip(views[::3], shots[::3], strict=True):
            (alone,) = render(world, [view], SIZE)
            for field in dataclasses.fields(shot):
                assert np.array_equal(getattr(alone, field.name), getattr(shot, field.name))


def test_the_same_seed_shows_the_same_bytes_on_every_machine(worlds):
    digest = hashlib.sha256()
    for _, _, shots in worlds:
        for shot in shots:
            digest.update(shot.image.tobytes() + shot.depth.astype(np.float16).tobytes() + shot.moving.tobytes())
    assert digest.hexdigest()[:16] == DIGEST


def test_what_moves_is_marked_and_nothing_else(worlds):
    marked = 0
    for world, views, shots in worlds:
        none = Traffic(np.zeros((0, 2)), np.zeros((0, 2)), world.still.rows(np.zeros(0, int)), np.zeros(0, int))
        for shot, still in zip(shots, render(dataclasses.replace(world, traffic=none), views, SIZE), strict=True):
            assert np.array_equal(shot.depth != still.depth, shot.moving) and not still.moving.any()
            marked += shot.moving.sum()
    assert marked > 300


@pytest.mark.parametrize("manoeuvre", MANOEUVRES)
def test_drives_are_smooth_and_within_their_limits(manoeuvre):
    tick = 0.05
    for seed in range(5):
        rng = np.random.default_rng([seed, 1])
        town = draw_town(rng, MANOEUVRES[manoeuvre].in_yard)
        motion = draw_motion(rng, town, manoeuvre, 6.0)
        poses = motion.world_from_vehicle(np.arange(0, 6, tick))
        assert rigid.is_rigid(poses).all()
        velocity = np.diff(poses[:, :3, 3], axis=0) / tick
        assert np.linalg.norm(velocity, axis=1).max() < 20.5
        acceleration = np.diff(velocity, axis=0) / tick
        assert np.linalg.norm(acceleration, axis=1).max() < 10
        assert np.linalg.norm(np.diff(acceleration, axis=0), axis=1).max() / tick < 80
        turns = np.degrees(
            np.arccos(np.clip((np.einsum("nij,nij->n", poses[1:, :3, :3], poses[:-1, :3, :3]) - 1) / 2, -1, 1))
        )
        assert turns.max() / tick < 45
        forward = np.einsum("ni,ni->n", velocity, poses[:-1, :3, 2])
        moving = np.linalg.norm(velocity, axis=1) > 0.3
        assert (abs(forward[moving]) > 0.97 * np.linalg.norm(velocity[moving], axis=1)).all()  # along its wheels
        assert manoeuvre == "parking" or (forward > -0.2).all()


def test_parking_goes_both_ways():
    rng = np.random.default_rng(4)
    motion = draw_motion(rng, draw_town(rng, True), "parking", 12.0)
    poses = motion.world_from_vehicle(np.arange(0, 12, 0.05))
    forward = np.einsum("ni,ni->n", np.diff(poses[:, :3, 3], axis=0), poses[:-1, :3, 2])
    assert (forward > 0.02).mean() > 0.15 and (forward < -0.02).mean() > 0.15


def test_nothing_stands_or_drives_in_the_vehicles_way():
    for seed in range(4):
        world = draw_world(np.random.default_rng(seed), 4.0)
        for time in np.arange(0, 4, 0.5):
            point, _ = world.motion.track(np.array(time))
            table, moves = world.at(time, point)
            low = table.foot[:, 2] - point[2] < 2.0
            apart = distance_to(table, point[None, :2])
            assert apart[low & ~moves].min() > CLEARANCE - 0.2 and apart[low & moves].min(initial=9.0) > 1.3


@pytest.mark.parametrize("lenses", ["pinhole", "fisheye", "mixed"])
def test_rigs_have_their_lenses_and_delays(lenses):
    rng, kinds, degrees = np.random.default_rng(0), set(), []
    for count in (1, 2, 4, 6, 8) * 3:
        rig = equip(rng, draw_rig(rng, count, 64), 64, lenses)
        assert (
            rig.delays[0] == 0 and len(rig.delays) == count and 0 <= min(rig.delays) <= max(rig.delays) <= LONGEST_DELAY
        )
        for camera in rig.cameras:
            kinds.add(camera.lens.kind)
            if camera.lens.kind == "pinhole":
                degrees.append(np.degrees(2 * np.arctan(32 / camera.lens.intrinsics[0, 0])))
    assert kinds == {"pinhole": {"pinhole"}, "fisheye": {"fisheye"}}.get(lenses, {"pinhole", "fisheye"})
    assert not degrees or (35 <= min(degrees) < 60 and 95 < max(degrees) <= 120)


@pytest.mark.parametrize("split", ["train", "unseen_rigs"])
def test_scenes_can_be_trained_on(split):
    options = {"worlds": 2, "lenses": "mixed", "steps": 2, "image_size": 32, "min_cameras": 3, "max_cameras": 3}
    source = Procedural(**options)
    for index in (0, 1):
        scene, again = (source.scenes(split)[index][1]() for _ in range(2))
        check_scene(scene)
        assert [frame.image for frame in scene.frames] == [frame.image for frame in again.frames]
        drive = make_drive(source, split, index)
        for frame in scene.frames:
            assert frame.time == drive.camera_times[frame.step, frame.camera]
            vehicle = drive.world.motion.world_from_vehicle(np.array(frame.time))
            expected = vehicle @ drive.rig.vehicle_from_rig @ scene.cameras[frame.camera].rig_from_camera
            np.testing.assert_allclose(frame.world_from_camera, expected, atol=1e-9)
            assert (decode_depth(frame.depth).values > 0).any()
    masks = [decode_mask(frame.mask) for frame in scene.frames if frame.mask]
    assert all(mask.shape == (32, 32) and (mask & ~np.uint8(MOVING | 1) == 0).all() for mask in masks)


def test_options_that_do_not_go_together_are_named():
    with pytest.raises(ValueError, match="lenses='mixed' goes with worlds=2"):
        Procedural(lenses="mixed")
    with pytest.raises(ValueError, match=r"worlds=3 must be in 1..2"):
        Procedural(worlds=3)
