"""Poses of photographs that a user knows, of any subset of them: by image, or a trajectory of the camera or the rig."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.image_names import of_images
from rig3r_jax.data.sources.folder.images import FLAT, ImageFile
from rig3r_jax.data.sources.folder.poses import POSE_FILES, Poses, poses_of_images, read_folder_poses
from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.formats.cameras_json import is_cameras_json, read_cameras
from rig3r_jax.formats.colmap import is_incomplete, suffix_of_model
from rig3r_jax.formats.times import AUTO, times_of_names
from rig3r_jax.formats.tum import read_named_poses
from rig3r_jax.inference.known import METRE, SCENE
from rig3r_jax.inference.known_lenses import camera_of
from rig3r_jax.inference.photographs import Photograph

LONGEST_GAP = 0.2  # seconds between two poses of a trajectory between which others are interpolated


def read_poses(
    path: Path,
    photographs: Sequence[Photograph],
    times: Mapping[str, float],
    rig: RigCalibration | None = None,
    longest_gap: float = LONGEST_GAP,
    time_unit: str = AUTO,
) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """world_from_camera by the names of the images, the unit of its lengths (METRE or SCENE), and notes.

    Args:
        path: a COLMAP model's folder or one of its files; TUM, KITTI or CSV, by image or as a trajectory of the rig
            (of the camera, where there is one); a folder of <camera>.txt; transforms.json; cameras.json.
        photographs: all.
        times: seconds by name, for trajectories by time; where there are none, images may be named by their times.
        rig: where cameras sit, for a trajectory of the rig of several.
        longest_gap: seconds between two poses between which others are interpolated.
        time_unit: of the file's times; auto, s, ms, us or ns.

    Raises:
        ValueError: names file, value, rule and remedy; where no image has a pose too.
    """
    names = [photograph.name for photograph in photographs]
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; give {POSE_FILES}")
    if path.suffix in (".txt", ".bin") and path.stem in ("images", "cameras") and _is_model(path.parent):
        path = path.parent
    if path.suffix == ".txt" and (named := read_named_poses(path)):
        poses, notes = of_images(named, names, path, f"poses in {path.name}")
        return poses, METRE, _in_unit(notes, METRE)
    stated = read_folder_poses(path, names, time_unit)
    unit = _unit(path, stated)
    if stated.images:
        by_image = {name: posed.world_from_camera for name, posed in stated.images.items()}
        poses, notes = of_images(by_image, names, path, f"poses in {path.name}")
        return poses, unit, _in_unit(notes, unit)
    poses = _along(stated, path, photographs, times, rig, longest_gap, time_unit)
    if not poses:
        raise ValueError(f"{path}: has a pose for none of the {len(names)} images, by name, time or number of row")
    bad_rows = [reason for track in (stated.rig, *stated.cameras.values()) if track for reason in track.bad_rows]
    note = f"poses in {path.name} of {len(poses)} of {len(names)} images"
    note += f"; {len(bad_rows)} rows are no pose, such as {bad_rows[0]}" if bad_rows else ""
    return poses, unit, _in_unit([note], unit)


def _is_model(folder: Path) -> bool:
    return bool(suffix_of_model(folder)) or is_incomplete(folder)


def _unit(path: Path, poses: Poses) -> str:
    """Models of images alone and transforms.json have no scale, cameras.json says, trajectories are in metres."""
    if path.suffix == ".json":
        return read_cameras(path).length_unit if is_cameras_json(path) else SCENE
    return METRE if poses.model is None else SCENE


def _in_unit(notes: Sequence[str], unit: str) -> list[str]:
    return [f"{note}, in {'metres' if unit == METRE else 'units of the scene'}" for note in notes]


def _along(
    poses: Poses,
    path: Path,
    photographs: Sequence[Photograph],
    times: Mapping[str, float],
    rig: RigCalibration | None,
    longest_gap: float,
    time_unit: str,
) -> dict[str, np.ndarray]:
    """Of the images along the trajectories of a file."""
    images = [_image_file(photograph) for photograph in photographs]
    cameras = list(dict.fromkeys(image.camera for image in images))
    tracks = [track for track in (poses.rig, *poses.cameras.values()) if track is not None]
    if not times and any(track.times is not None for track in tracks):
        times = _times_by_name(images, time_unit)
        if not times:
            raise ValueError(
                f"{path}: its poses go by time, and nothing tells when the images were taken; give --times, or rows "
                "that begin with the image's name"
            )
    calibrated = {_image_file(one).camera: camera_of(rig, one) if rig else None for one in photographs}
    places = {name: camera and camera.rig_from_camera for name, camera in calibrated.items()}
    if len(cameras) == 1 and places[cameras[0]] is None:
        places = {cameras[0]: np.eye(4)}
    if poses.rig is not None and (unplaced := [camera for camera in cameras if places[camera] is None]):
        raise ValueError(
            f"{path}: is the trajectory of a rig, and nothing says where {', '.join(unplaced)} sits in it; give --rig, "
            "or a folder of <camera>.txt"
        )
    steps = {one.name: one.step if one.step is not None else number for number, one in enumerate(photographs)}
    return poses_of_images(poses, images, times, steps, places, longest_gap)


def _image_file(photograph: Photograph) -> ImageFile:
    stem = photograph.name.removeprefix(f"{photograph.camera}/").rpartition(".")[0]
    return ImageFile(photograph.path, photograph.name, photograph.camera or FLAT, stem)


def _times_by_name(images: Sequence[ImageFile], time_unit: str) -> dict[str, float]:
    """Seconds where the images are named by their times; {} where they are not."""
    leaves = [image.stem.rpartition("/")[2] for image in images]
    seconds_and_unit = times_of_names(leaves, time_unit, "the images' names")
    names = (image.name for image in images)
    return dict(zip(names, seconds_and_unit[0].tolist(), strict=True)) if seconds_and_unit else {}
