"""Small data sets on disk: recordings in the layouts of TUM and 7-Scenes, and a copy of a real DGP rig to break."""

import functools
import os
import shutil
from itertools import pairwise

import cv2
import numpy as np

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.formats.tum import write_trajectory

RIG = "realdata/ddad_dgp_rig"


def copy_rig(shared, folder):
    """A copy of the data that a test may break: links, and real files for the JSON."""
    shutil.copytree(shared / RIG, folder, copy_function=os.symlink)
    for path in folder.rglob("*.json"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    return folder


def make_recording(folder, count, size=(480, 640)):
    lines = {"rgb.txt": ["# color images"], "depth.txt": ["# depth maps"]}
    times = 1311868164.0 + np.arange(count) / 30
    for name, later in (("rgb", 0.0), ("depth", 0.002)):
        (folder / name).mkdir(parents=True)
        for i, time in enumerate(times + later):
            image = np.full(size, 5000 + i, np.uint16) if name == "depth" else np.full((*size, 3), i, np.uint8)
            if name == "depth":
                image[0, 0] = 0
            assert cv2.imwrite(str(folder / name / f"{i}.png"), image)
            lines[f"{name}.txt"].append(f"{time:.6f} {name}/{i}.png")
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    world_from_camera = np.tile(np.eye(4), (count, 1, 1))
    world_from_camera[:, 0, 3] = np.arange(count)
    write_trajectory(folder / "groundtruth.txt", times + 0.003, world_from_camera)
    return folder


def drop_rows(path, *dropped):
    rows = path.read_text().splitlines()
    path.write_text("\n".join(row for i, row in enumerate(rows) if i - 1 not in dropped) + "\n")


def make_sequence(folder, count, sequence=0, suffix="png", size=(6, 8)):
    """Small frames: images tell the sequence and the frame, the camera is at (frame, sequence, 0)."""
    folder.mkdir(parents=True)
    for i in range(count):
        stem = folder / f"frame-{i:06d}"
        image = np.full((*size, 3), (i, sequence, 0), np.uint8)
        assert cv2.imwrite(f"{stem}.color.{suffix}", image)
        depth = np.full(size, 1000 + i, np.uint16)
        depth[0, :2] = (0, 65535)
        assert cv2.imwrite(f"{stem}.depth.png", depth)
        world_from_camera = np.eye(4)
        world_from_camera[:2, 3] = (i, sequence)
        np.savetxt(f"{stem}.pose.txt", world_from_camera, fmt="%.8e", delimiter="\t ")
    return folder


def make_listed_scene(folder):
    """seq-01 ... seq-03 of 20 frames, the second for testing."""
    for sequence in (1, 2, 3):
        make_sequence(folder / f"seq-{sequence:02d}", 20, sequence)
    (folder / "TrainSplit.txt").write_text("sequence1\nsequence3\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")
    return folder


def z_depth(scene, frame):
    """Depth along the axis of the frame's camera, float64, of the distances along rays that frames hold."""
    camera = scene.cameras[frame.camera]
    distortion = tuple(camera.lens.distortion) if camera.lens.coefficients else None
    lengths = _ray_lengths(tuple(map(tuple, camera.lens.intrinsics)), distortion, *camera.size)
    return decode_depth(frame.depth).values.astype(np.float64) / lengths


@functools.cache
def _ray_lengths(intrinsics, distortion, height, width):
    """(height, width) of the distance to each pixel's point where its depth is 1."""
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 1, 2)
    until = (cv2.TERM_CRITERIA_COUNT, 40, 0.0)
    distortion = None if distortion is None else np.array(distortion)
    normalized = cv2.undistortPoints(pixels, np.array(intrinsics), distortion, None, None, None, until)
    return np.sqrt(1 + (normalized.reshape(height, width, 2) ** 2).sum(axis=-1))


def depth_errors(scenes):
    """Median metres by which depths differ from those of the next frame of the one camera, in the pixels that their
    points move to by the poses, and where they are compared pixel by pixel."""
    moved, unmoved = [], []
    for scene in scenes:
        intrinsics, (height, width) = scene.cameras[0].lens.intrinsics, scene.cameras[0].size
        depths = (z_depth(scene, frame) for frame in scene.frames)
        for (now, then), (depth, depth_then) in zip(pairwise(scene.frames), pairwise(depths), strict=True):
            rows, columns = np.nonzero(depth)
            rows, columns = rows[::50], columns[::50]
            points_now = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1) @ np.linalg.inv(intrinsics).T
            points_now *= depth[rows, columns, None]
            then_from_now = np.linalg.inv(then.world_from_camera) @ now.world_from_camera
            points_then = points_now @ then_from_now[:3, :3].T + then_from_now[:3, 3]
            pixels = points_then @ intrinsics.T
            u, v = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
            inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (points_then[:, 2] > 0)
            seen = depth_then[v[inside], u[inside]]
            moved.append(np.median(np.abs(seen - points_then[inside, 2])[seen > 0]))
            unmoved.append(np.median(np.abs(seen - depth[rows, columns][inside])[seen > 0]))
    return np.median(moved), np.median(unmoved)
