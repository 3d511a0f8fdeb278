"""Readers of any system's output, and of the truth: a file or a folder becomes a `PosedScene`.

cameras.json       with reconstruction.npz and points.ply beside it, where there are (a folder of `rig3r reconstruct`)
a COLMAP model     text or binary, with rigs or without, in the folder or where COLMAP puts it below
transforms.json    of nerfstudio and instant-ngp
.npz               arrays of demo scripts (see `read_arrays`)
.tum, .txt, .csv   trajectories: TUM (time tx ty tz qx qy qz qw), rows that begin with an image's name instead of a
                   time, KITTI (12 numbers; NAME.times.txt beside it); a folder of them: one file per camera
.ply               points alone, or beside cameras
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.evaluation.systems.read_arrays import PLACES, read_arrays
from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.exports.read import ARRAYS_FILE, CAMERAS, CLOUD, read_reconstruction
from rig3r_jax.formats.cameras_json import is_cameras_json, read_cameras
from rig3r_jax.formats.colmap import find_model, is_incomplete, read_model
from rig3r_jax.formats.image_times import read_image_times
from rig3r_jax.formats.kitti_poses import read_poses
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.formats.pose_csv import read_pose_table
from rig3r_jax.formats.text import numbered_lines, read_text, split_words
from rig3r_jax.formats.transforms_json import read_transforms
from rig3r_jax.formats.tum import read_named_poses, read_trajectory
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.schema import Reconstruction

TIMES = ".times.txt"  # beside a KITTI file of the same name
TRANSFORMS = "transforms.json"
BODY = "rig"  # the trajectory of no camera in folders that this package writes
FORMATS = "cameras.json, a COLMAP model, transforms.json, .npz of demo scripts, trajectories (TUM, KITTI, .csv), .ply"


def read_scene(path: Path) -> PosedScene:
    """ValueError naming file, value, rule and remedy; OSError where there is none."""
    if path.is_dir():
        if (inside := _inside(path)) is None:
            raise ValueError(f"{path}: holds none of the files that are read: {FORMATS}")
        read, place = inside
        return read(place)
    if path.suffix == ".json":
        if is_cameras_json(path):
            return scene_of(read_cameras(path), str(path))
        return _of_transforms(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: a file of {path.suffix or 'no suffix'} is not read; give {FORMATS}")
    if path.stem in ("images", "cameras", "points3D") and find_model(path.parent) == path.parent:
        return _of_model(path.parent)
    return reader(path)


def is_scene(path: Path) -> bool:
    """Whether it is a file of a suffix that is read, or a folder that holds one scene."""
    if path.is_dir():
        return _inside(path) is not None
    return path.suffix.lower() in (*_READERS, ".json") and not path.name.endswith(TIMES)


def scene_of(reconstruction: Reconstruction, source: str) -> PosedScene:
    """The scene of a reconstruction: its points on images are the cloud, and depth maps where it has maps."""
    images, points = reconstruction.images, reconstruction.points
    cameras = [reconstruction.camera_of(image) for image in images]
    covariances = [np.full((6, 6), np.nan) if image.covariance is None else image.covariance for image in images]
    placed = all(camera is not None and camera.rig_from_camera is not None for camera in cameras)
    sizes = np.array([(image.width, image.height) for image in images])
    depths = None
    if points is not None:
        valid = points.on_image & np.isfinite(points.depth) & (points.depth > 0)
        maps = zip(points.pixels.astype(np.float64), sizes, points.depth.astype(np.float64), valid, images, strict=True)
        depths = tuple(
            DepthMap(uv / size, depth, on, image.lens.wide, _stretch(image.lens, uv))
            for uv, size, depth, on, image in maps
        )
    return PosedScene(
        source=source,
        kind="cameras.json",
        world_from_camera=reconstruction.world_from_camera,
        names=tuple(image.name for image in images),
        times=_all([image.time for image in images]),
        cameras=tuple(camera.name for camera in cameras) if all(cameras) else None,
        lenses=tuple(image.lens for image in images),
        sizes=sizes,
        rig_from_camera=np.stack([camera.rig_from_camera for camera in cameras]) if placed else None,
        covariances=None if all(image.covariance is None for image in images) else np.stack(covariances),
        depths=depths,
        points_world=None if points is None else points.points_world[valid].astype(np.float64),
        is_metric=reconstruction.length_unit == "metre",
    )


def _stretch(lens: Lens, pixels: np.ndarray) -> np.ndarray | None:
    """Of depths along the axis, at pixels; None of wide lenses, whose depths are along rays."""
    if lens.wide:
        return None
    rays = np.asarray(lens.rays(pixels), np.float64)
    return np.linalg.norm(rays, axis=-1) / rays[..., 2]


def _inside(folder: Path) -> tuple[Callable[[Path], PosedScene], Path] | None:
    """The reader of a folder, and what it reads; None where it holds no scene."""
    if (folder / CAMERAS).is_file():
        return _of_export, folder
    if is_incomplete(folder):
        return _of_model, folder
    if model := find_model(folder):
        return _of_model, model
    if (folder / TRANSFORMS).is_file():
        return _of_transforms, folder / TRANSFORMS
    arrays = [folder / place for place in PLACES if (folder / place).is_file()] or sorted(folder.glob("*.npz"))
    if arrays and (len(arrays) == 1 or arrays[0].parent != folder or arrays[0].name in PLACES):
        return read_arrays, arrays[0]
    if _trajectories(folder):
        return _of_trajectories, folder
    clouds = sorted(folder.glob("*.ply"))
    return (_of_points, clouds[0]) if len(clouds) == 1 else None


def _of_export(folder: Path) -> PosedScene:
    if (folder / ARRAYS_FILE).is_file():
        return scene_of(read_reconstruction(folder), str(folder))
    scene = scene_of(read_cameras(folder / CAMERAS), str(folder / CAMERAS))
    return _with_cloud(scene, folder / CLOUD)


def _with_cloud(scene: PosedScene, path: Path) -> PosedScene:
    return dataclasses.replace(scene, points_world=_points(path)) if path.is_file() else scene


def _of_model(folder: Path) -> PosedScene:
    model = read_model(folder)
    scene = scene_of(model.reconstruction, str(folder))
    placed = [camera.id for camera in model.reconstruction.cameras if camera.rig_from_camera is not None]
    rigs = {model.rigs.get(number) for number in placed}
    return dataclasses.replace(
        scene,
        kind="COLMAP model",
        # Places in several rigs are in as many frames.
        rig_from_camera=scene.rig_from_camera if len(rigs) == 1 else None,
        points_world=model.points_world if len(model.points_world) else None,
        is_metric=True,  # the format has no unit: what a model is measured against says so
    )


def _of_transforms(path: Path) -> PosedScene:
    frames = read_transforms(path)
    sized = all(frame.size is not None for frame in frames)
    return PosedScene(
        source=str(path),
        kind="transforms.json",
        world_from_camera=np.stack([frame.world_from_camera for frame in frames]),
        names=tuple(frame.name for frame in frames),
        times=_all([frame.time for frame in frames]),
        lenses=tuple(frame.lens for frame in frames),
        sizes=np.array([frame.size[::-1] for frame in frames]) if sized else None,
    )


def _trajectories(folder: Path) -> list[Path]:
    """The files of a folder that has no others but their times; that of the rig's frame is no camera's."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    tracks = [path for path in files if path.suffix in _TRAJECTORIES and not path.name.endswith(TIMES)]
    if len(tracks) < len([path for path in files if not path.name.endswith(TIMES)]):
        return []
    cameras = [path for path in tracks if path.stem != BODY]
    return cameras or tracks


def _of_trajectories(folder: Path) -> PosedScene:
    """One file per camera, whose name is the camera's."""
    tracks = [_READERS[path.suffix](path) for path in _trajectories(folder)]
    names = [path.stem for path in _trajectories(folder)]
    times = [track.times for track in tracks]
    images = [track.names for track in tracks]
    return PosedScene(
        source=str(folder),
        kind=f"{tracks[0].kind} of {len(tracks)} cameras" if len(tracks) > 1 else tracks[0].kind,
        world_from_camera=np.concatenate([track.world_from_camera for track in tracks]),
        names=None if any(one is None for one in images) else tuple(name for one in images for name in one),
        times=None if any(one is None for one in times) else np.concatenate(times),
        cameras=tuple(name for name, track in zip(names, tracks, strict=True) for _ in range(len(track))),
    )


def _of_trajectory(path: Path) -> PosedScene:
    """TUM, named rows or KITTI, which the first row tells."""
    rows = (split_words(line) for _, line in numbered_lines(read_text(path)) if not line.startswith("#"))
    if len(next(rows, ())) == 12:
        poses, beside = read_poses(path), path.with_name(path.stem + TIMES)
        times = read_image_times(beside).seconds if beside.is_file() else None
        if times is not None and len(times) != len(poses):
            raise ValueError(
                f"{beside}: has {len(times)} times for {len(poses)} poses in {path.name}; restore the files"
            )
        return PosedScene(str(path), "KITTI", poses, times=times)
    if named := read_named_poses(path):
        return PosedScene(str(path), "poses by name", np.stack(list(named.values())), tuple(named))
    trajectory = read_trajectory(path)
    return PosedScene(str(path), "TUM", trajectory.world_from_camera, times=trajectory.times)


def _of_table(path: Path) -> PosedScene:
    table = read_pose_table(path)
    return PosedScene(str(path), "table of poses", table.world_from_body, table.images, table.times)


def _of_points(path: Path) -> PosedScene:
    return PosedScene(str(path), "points", np.zeros((0, 4, 4)), points_world=_points(path))


def _points(path: Path) -> np.ndarray:
    points = read_ply(path).points_world.astype(np.float64)
    return points[np.isfinite(points).all(axis=1)]


def _all(values: Sequence[float | None]) -> np.ndarray | None:
    return None if any(value is None for value in values) else np.array(values, np.float64)


_TRAJECTORIES = {".tum": _of_trajectory, ".txt": _of_trajectory, ".csv": _of_table}
_READERS: dict[str, Callable[[Path], PosedScene]] = {**_TRAJECTORIES, ".npz": read_arrays, ".ply": _of_points}
