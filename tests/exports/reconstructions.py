"""Reconstructions of an analytic scene: true cameras, and the points in which their pixels' rays meet a sphere."""

import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown, Fisheye, Lens, Pinhole, Unified
from rig3r_jax.schema import PhysicalCamera, PointMaps, PosedImage, Reconstruction, Scale

RADIUS = 9.0  # metres, of a sphere about the world's origin; all cameras are inside
GRID = (5, 6)  # rows, columns of points
SIZES = {"landscape": (640, 480), "portrait": (375, 812)}  # width, height


def lens_of(kind: str, width: int, height: int) -> Lens:
    """A lens that is nowhere symmetric."""
    k = np.array([[0.71 * width, 0, 0.51 * width + 1.25], [0, 0.73 * width, 0.48 * height - 2.5], [0, 0, 1]])
    return {
        "pinhole": lambda: Pinhole(k),
        "brown": lambda: Brown(k, np.array([-0.11, 0.03, 1e-3, -2e-3, 0.0])),
        "brown_k3": lambda: Brown(k, np.array([-0.11, 0.03, 1e-3, -2e-3, -0.0004])),
        "fisheye": lambda: Fisheye(k * [[0.8, 1, 1], [1, 0.8, 1], [1, 1, 1]], np.array([0.02, -0.01, 0.003, -0.001])),
        "unified": lambda: Unified(k, np.array([0.9, -0.1, 0.02, 1e-3, -1e-3])),
    }[kind]()


def rig_of_three(kind: str, size: str = "landscape") -> Reconstruction:
    """Four steps of a rig of three cameras that differ in size; its frame is that of camera 0."""
    cameras, sizes = [], []
    for number, (degrees, place) in enumerate([(0, (0, 0, 0)), (-50, (-0.4, 0.05, -0.1)), (70, (0.5, -0.02, -0.3))]):
        width, height = SIZES[size][0] - 40 * number, SIZES[size][1] + 20 * number
        turn = Rotation.from_euler("yx", [degrees, number], degrees=True).as_matrix()
        rig_from_camera = rigid.from_rotation_translation(turn, np.array(place, np.float64))
        sizes.append((width, height))
        lens = lens_of(kind, width, height)
        cameras.append(PhysicalCamera(number, ("front", "left", "right")[number], lens, rig_from_camera))
    images = []
    for step in range(4):
        turn = Rotation.from_euler("yzx", [12 * step, 3 * step, -2 * step], degrees=True).as_matrix()
        world_from_rig = rigid.from_rotation_translation(turn, np.array([0.3 * step, -0.1 * step, 0.9 * step]))
        for camera, (width, height) in zip(cameras, sizes, strict=True):
            place = world_from_rig @ camera.rig_from_camera
            name = f"{camera.name}/{step:03d}.jpg"
            images.append(PosedImage(name, width, height, camera.lens, place, camera=camera.id, time=0.25 * step))
    return _with_points(Reconstruction(tuple(images), tuple(cameras), "metre", Scale(1.0, "given")))


def unordered(kind: str) -> Reconstruction:
    """Three single images of no known camera, each with a lens and a size of its own, one a portrait; no times."""
    rng = np.random.default_rng(7)
    images = []
    for number, (width, height) in enumerate([SIZES["landscape"], SIZES["portrait"], (1001, 333)]):
        turn = Rotation.from_rotvec(rng.normal(0, 0.6, 3)).as_matrix()
        place = rigid.from_rotation_translation(turn, rng.normal(0, 1.5, 3))
        images.append(PosedImage(f"photo {number}.png", width, height, lens_of(kind, width, height), place))
    return _with_points(Reconstruction(tuple(images), (), "scene", Scale(1.0, "none")))


def _with_points(cameras: Reconstruction) -> Reconstruction:
    rng = np.random.default_rng(1)
    pixels, points_world, depth, seen = [], [], [], []
    for image in cameras.images:
        u = (np.arange(GRID[1]) + 0.5) * image.width / GRID[1]
        v = (np.arange(GRID[0]) + 0.5) * image.height / GRID[0]
        grid = np.stack(np.meshgrid(u, v), axis=-1)
        rays = image.lens.rays(grid)
        center = image.world_from_camera[:3, 3]
        across = rays @ image.world_from_camera[:3, :3].T
        along = -across @ center + np.sqrt((across @ center) ** 2 - center @ center + RADIUS**2)
        pixels.append(grid)
        seen.append(image.lens.sees(grid))  # a fisheye's image ends in a circle
        points_world.append(center + along[..., None] * across)
        depth.append(along if image.lens.wide else along * rays[..., 2])
    shape = (len(cameras.images), *GRID)
    points = PointMaps(
        np.stack(pixels),
        np.stack(points_world),
        np.stack(depth),
        1.0 + 9.0 * rng.random(shape),
        np.stack(seen),
        rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
    )
    return Reconstruction(cameras.images, cameras.cameras, cameras.length_unit, cameras.scale, points)
