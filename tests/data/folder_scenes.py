"""Scenes of the folders of `rig_folders`, compared with their truth, and folders with other files of poses."""

import shutil

import numpy as np
import pytest

from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources import make_source
from tests.data import rig_folders
from tests.data.rig_folders import POINTS_WORLD, STEPS, TRUTH

ALL = {"fractions": [1, 0, 0]}


def load(folder, **options):
    """All time steps as one scene, and the source."""
    source = make_source("folder", str(folder), ALL | {"window": 64} | options)
    ((_, loader),) = source.scenes("train")
    scene = loader()
    check_scene(scene)
    return scene, source


def assert_true(scene, atol=1e-6, scale=1.0):
    """Cameras, poses and order of the scene are the writer's: points of the world fall where OpenCV says."""
    assert {camera.name for camera in scene.cameras} == {"left", "right"} and len(scene.frames) == 2 * STEPS
    front = scene.cameras[scene.front_camera].name
    base_from_world = np.linalg.inv(TRUTH.world_from_camera(front, 0))
    points_base = scale * (POINTS_WORLD @ base_from_world[:3, :3].T + base_from_world[:3, 3])
    for frame in scene.frames:
        camera = scene.cameras[frame.camera]
        camera_from_base = np.linalg.inv(frame.world_from_camera)
        points_camera = points_base @ camera_from_base[:3, :3].T + camera_from_base[:3, 3]
        np.testing.assert_allclose(camera.lens.project(points_camera), TRUTH.pixels(camera.name, frame.step), atol=atol)
        assert camera.size == rig_folders.SIZES[camera.name]
        front_from_camera = np.linalg.inv(TRUTH.rig_from_camera[front]) @ TRUTH.rig_from_camera[camera.name]
        front_from_camera[:3, 3] *= scale
        np.testing.assert_allclose(camera.rig_from_camera, front_from_camera, atol=1e-7)


def without(folder, *names):
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def pose_file(folder, kind):
    """Replaces poses.txt (and what the file brings itself) by another kind."""
    without(folder, "poses.txt")
    if kind == "per camera":
        (folder / "poses").mkdir()
        for camera in ("left", "right"):
            rows = rig_folders.tum_rows(TRUTH.times, rig_folders.of_camera(camera))
            (folder / "poses" / f"{camera}.txt").write_text(rows)
    elif kind == "kitti":
        (folder / "poses.txt").write_text(rig_folders.kitti_rows(TRUTH.world_from_rig))
    elif kind == "csv by time":
        rows = rig_folders.tum_rows(TRUTH.times * 1e9, TRUTH.world_from_rig).replace(" ", ",")
        (folder / "poses.csv").write_text("timestamp,x,y,z,qx,qy,qz,qw\n" + rows)
    elif kind == "csv by image":
        rows = ["image,x,y,z,qx,qy,qz,qw"]
        for camera in ("left", "right"):
            lines = rig_folders.tum_rows(TRUTH.times, rig_folders.of_camera(camera)).splitlines()
            rows += [f"{camera}/{step:06d}.png,{','.join(line.split()[1:])}" for step, line in enumerate(lines)]
        (folder / "poses.csv").write_text("\n".join(rows) + "\n")
    elif kind == "transforms":
        rig_folders.write_transforms(folder / "transforms.json")
        without(folder, "rig_config.json")
    else:
        pytest.importorskip("pycolmap")
        rig_folders.write_colmap(folder / "sparse/0", rigs=kind == "colmap rigs")
        without(folder, "rig_config.json")
