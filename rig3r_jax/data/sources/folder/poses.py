"""The poses of a folder, from whichever file has them: by image, or a trajectory of the rig or of each camera."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.folder.images import SUFFIXES, ImageFile
from rig3r_jax.data.trajectory import poses_at
from rig3r_jax.formats import tum
from rig3r_jax.formats.cameras_json import is_cameras_json, read_cameras
from rig3r_jax.formats.colmap import ColmapModel, find_model, is_incomplete, read_model
from rig3r_jax.formats.kitti_poses import read_poses
from rig3r_jax.formats.pose_csv import read_pose_table
from rig3r_jax.formats.text import numbered_lines, read_text, split_words
from rig3r_jax.formats.times import AUTO
from rig3r_jax.formats.transforms_json import read_transforms
from rig3r_jax.geometry.camera import Lens

POSE_FILES = (  # that are read, in words
    "poses.txt (TUM: time tx ty tz qx qy qz qw, or KITTI: 12 numbers a row), poses/<camera>.txt, poses.csv, "
    "transforms.json, a COLMAP model in sparse/0, or cameras.json"
)


@dataclasses.dataclass(frozen=True)
class Track:
    """A trajectory: of the rig's frame, or of one camera."""

    path: Path
    world_from_body: np.ndarray  # (n, 4, 4)
    times: np.ndarray | None  # (n,) seconds; None: a row per time step
    bad_rows: tuple[str, ...] = ()  # why rows of the file are no pose


@dataclasses.dataclass(frozen=True)
class Posed:
    """What a file says of one image."""

    world_from_camera: np.ndarray
    lens: Lens | None = None
    size: tuple[int, int] | None = None
    rig_from_camera: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Poses:
    """All that the file of the poses says; the fields that it does not fill are empty."""

    source: str  # where they are from, in words
    images: dict[str, Posed] = dataclasses.field(default_factory=dict)  # by name below images/
    rig: Track | None = None
    cameras: dict[str, Track] = dataclasses.field(default_factory=dict)
    times: dict[str, float] = dataclasses.field(default_factory=dict)  # of images, seconds, where the file states them
    frames: dict[str, int] = dataclasses.field(default_factory=dict)  # of images, where the file groups them
    model: ColmapModel | None = None
    depths: dict[str, str] = dataclasses.field(default_factory=dict)  # files of depth, of images by name
    masks: dict[str, str] = dataclasses.field(default_factory=dict)


def find_poses(folder: Path, choice: str) -> Path | None:
    """The file, or folder, of the poses: `choice`, or the first that there is; None for none."""
    if choice:
        if not (folder / choice).exists():
            raise BadRecord(f"{folder / choice}: does not exist; correct poses=, or give {POSE_FILES}")
        return folder / choice
    names = ("poses.txt", "poses", "poses.csv", "transforms.json")
    if pose_file := next((folder / name for name in names if (folder / name).exists()), None):
        return pose_file
    return find_model(folder) or (folder / "cameras.json" if (folder / "cameras.json").is_file() else None)


def read_folder_poses(path: Path, names: Sequence[str], time_unit: str = AUTO) -> Poses:
    """Reads them; `names` are those of the images below images/. ValueError naming the file, the rule, the remedy."""
    if path.is_dir():
        model = path if is_incomplete(path) else find_model(path)
        return _of_model(model, names) if model else _of_cameras(path, time_unit)
    if path.suffix == ".txt":
        return Poses(path.name, rig=_track(path, time_unit))
    if path.suffix == ".csv":
        return _of_table(path, names, time_unit)
    if path.suffix == ".json":
        return _of_cameras_json(path, names) if is_cameras_json(path) else _of_transforms(path, names)
    raise BadRecord(f"{path}: is no file of poses; give {POSE_FILES}")


def _track(path: Path, time_unit: str) -> Track:
    """TUM or KITTI, which the number of columns tells."""
    if path.suffix == ".csv":
        table = read_pose_table(path, time_unit)
        return Track(path, table.world_from_body, table.times)
    rows = (split_words(line) for _, line in numbered_lines(read_text(path)) if not line.startswith("#"))
    if len(next(rows, ())) == 12:
        return Track(path, read_poses(path), None)
    bad_rows: dict[int, str] = {}
    trajectory = tum.read_trajectory(path, bad_rows, time_unit=time_unit)
    good = np.array([number not in bad_rows for number in range(len(trajectory.times))])
    return Track(path, trajectory.world_from_camera[good], trajectory.times[good], tuple(bad_rows.values()))


def _of_cameras(folder: Path, time_unit: str) -> Poses:
    files = sorted([*folder.rglob("*.txt"), *folder.rglob("*.csv")])
    if not files:
        raise BadRecord(f"{folder}: holds neither <camera>.txt nor a COLMAP model; give {POSE_FILES}")
    tracks = {path.relative_to(folder).with_suffix("").as_posix(): _track(path, time_unit) for path in files}
    return Poses(f"{folder.name}/<camera>: {', '.join(tracks)}", cameras=tracks)


def _of_table(path: Path, names: Sequence[str], time_unit: str) -> Poses:
    table = read_pose_table(path, time_unit)
    if table.images is None:
        return Poses(path.name, rig=Track(path, table.world_from_body, table.times))
    posed = map(Posed, table.world_from_body)
    images = dict(zip(_below_images(path, table.images, names), posed, strict=True))
    times = {} if table.times is None else dict(zip(images, table.times.tolist(), strict=True))
    return Poses(path.name, images, times=times)


def _of_model(folder: Path, names: Sequence[str]) -> Poses:
    model = _renamed(read_model(folder), folder, names)
    reconstruction = model.reconstruction
    places = {camera.id: camera.rig_from_camera for camera in reconstruction.cameras}
    if len({model.rigs.get(number) for number, place in places.items() if place is not None}) > 1:
        places = dict.fromkeys(places)  # places in several rigs are in as many frames
    images = {
        image.name: Posed(image.world_from_camera, image.lens, (image.height, image.width), places[image.camera])
        for image in reconstruction.images
    }
    frames = model.frames if any(place is not None for place in places.values()) else {}
    return Poses(f"COLMAP model {folder.name} ({len(model.points_world)} points)", images, frames=frames, model=model)


def _renamed(model: ColmapModel, folder: Path, names: Sequence[str]) -> ColmapModel:
    """The model with the names that its images have below images/."""
    listed = [image.name for image in model.reconstruction.images]
    new = dict(zip(listed, _below_images(folder, listed, names), strict=True))
    images = tuple(dataclasses.replace(image, name=new[image.name]) for image in model.reconstruction.images)
    return dataclasses.replace(
        model,
        reconstruction=dataclasses.replace(model.reconstruction, images=images),
        frames={new[name]: frame for name, frame in model.frames.items()},
        observations={new[name]: seen for name, seen in model.observations.items()},
    )


def in_metres(poses: Poses, metres: float) -> Poses:
    """The same with lengths multiplied; the points of a model stay in its unit."""

    def scaled(transform: np.ndarray | None) -> np.ndarray | None:
        if transform is None:
            return None
        result = transform.copy()
        result[..., :3, 3] *= metres
        return result

    def of(posed: Posed) -> Posed:
        place = scaled(posed.rig_from_camera)
        return dataclasses.replace(posed, world_from_camera=scaled(posed.world_from_camera), rig_from_camera=place)

    def along(track: Track) -> Track:
        return dataclasses.replace(track, world_from_body=scaled(track.world_from_body))

    return dataclasses.replace(
        poses,
        images={name: of(posed) for name, posed in poses.images.items()},
        rig=poses.rig and along(poses.rig),
        cameras={camera: along(track) for camera, track in poses.cameras.items()},
    )


def _of_transforms(path: Path, names: Sequence[str]) -> Poses:
    frames = read_transforms(path)
    keys = _below_images(path, [frame.name for frame in frames], names)
    pairs = list(zip(keys, frames, strict=True))
    images = {key: Posed(frame.world_from_camera, frame.lens, frame.size) for key, frame in pairs}
    times = {key: frame.time for key, frame in pairs if frame.time is not None}
    depths = {key: frame.depth for key, frame in pairs if frame.depth}
    masks = {key: frame.mask for key, frame in pairs if frame.mask}
    return Poses(path.name, images, times=times if len(times) == len(images) else {}, depths=depths, masks=masks)


def _of_cameras_json(path: Path, names: Sequence[str]) -> Poses:
    reconstruction = read_cameras(path)
    keys = _below_images(path, [image.name for image in reconstruction.images], names)
    images, times = {}, {}
    for key, image in zip(keys, reconstruction.images, strict=True):
        camera = reconstruction.camera_of(image)
        place = camera.rig_from_camera if camera else None
        images[key] = Posed(image.world_from_camera, image.lens, (image.height, image.width), place)
        if image.time is not None:
            times[key] = image.time
    return Poses(path.name, images, times=times if len(times) == len(images) else {})


def _below_images(path: Path, listed: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names of images as a file lists them, as names below images/: without that folder, with their suffix.

    BadRecord where one is listed twice.
    """
    names_here = set(names)
    stems = {name.rpartition(".")[0]: name for name in names}
    keys = []
    for name in listed:
        candidates = [name, name.partition("/")[2], name.rpartition("/")[2]]
        key = next((candidate for candidate in candidates if candidate in names_here), "")
        if not key and Path(name).suffix.lower() not in SUFFIXES:
            key = next((stems[candidate] for candidate in candidates if candidate in stems), "")
        keys.append(key or name)
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRecord(f"{path}: lists the image {twice} twice; remove one of the rows")
    return keys


def poses_of_images(
    poses: Poses,
    images: Sequence[ImageFile],
    times: Mapping[str, float],
    steps: Mapping[str, int],
    places: Mapping[str, np.ndarray | None],
    longest_gap: float,
) -> dict[str, np.ndarray]:
    """world_from_camera of the images that have one, by name.

    Args:
        poses: of the folder.
        images: all that are to have a pose.
        times: of images by name, seconds; {} where not known.
        steps: of images by name.
        places: rig_from_camera by camera, for a trajectory of the rig.
        longest_gap: seconds between two poses between which others are interpolated.
    """
    world_from_camera = {
        image.name: poses.images[image.name].world_from_camera for image in images if image.name in poses.images
    }
    of_camera: dict[str, list[ImageFile]] = {}
    for image in images:
        of_camera.setdefault(image.camera, []).append(image)
    if poses.cameras and not poses.cameras.keys() & of_camera.keys():
        raise BadRecord(
            f"{poses.source}: has a trajectory of none of the cameras {', '.join(of_camera)}; name each file as the "
            "folder of its images"
        )
    for camera, members in of_camera.items():
        track, place = poses.cameras.get(camera), np.eye(4)
        if track is None and poses.rig is not None:
            track, place = poses.rig, places[camera]
            if place is None:
                raise BadRecord(
                    f"{track.path}: is the rig's, but nothing says where the camera {camera} sits in it; add a "
                    "rig_config.json or a camchain.yaml, or give poses/<camera>.txt for each camera"
                )
        if track is not None:
            rows = _rows_of if track.times is None else _interpolated(times, longest_gap)
            world_from_camera |= {name: pose @ place for name, pose in rows(track, members, steps).items()}
    return world_from_camera


def _interpolated(
    times: Mapping[str, float], longest_gap: float
) -> Callable[[Track, Sequence[ImageFile], Mapping[str, int]], dict[str, np.ndarray]]:
    def at(track: Track, images: Sequence[ImageFile], steps: Mapping[str, int]) -> dict[str, np.ndarray]:
        timed = [image.name for image in images if image.name in times]
        if not timed:
            raise BadRecord(
                f"{track.path}: its poses go by time, and nothing tells the times of the images; add times.txt (rows "
                "of time and image), or name the images by their times"
            )
        image_times = np.array([times[name] for name in timed])
        poses, has_pose = poses_at(image_times, track.times, track.world_from_body, longest_gap)
        if not has_pose.any():
            raise BadRecord(
                f"{track.path}: its times, {track.times.min():.3f} to {track.times.max():.3f} s, hold none of the "
                f"images' ({image_times.min():.3f} to {image_times.max():.3f} s); give both by one clock and unit "
                "(time_unit=)"
            )
        return {name: pose for name, pose, posed in zip(timed, poses, has_pose, strict=True) if posed}

    return at


def _rows_of(track: Track, images: Sequence[ImageFile], steps: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Rows without times: row number n is of the image that is named n, or of the n-th time step."""
    rows = len(track.world_from_body)
    numbers = [int(stem) for image in images if (stem := image.stem.rpartition("/")[2]).isdigit()]
    count = max(steps[image.name] for image in images) + 1
    if len(numbers) == len(images) and max(numbers) < rows:
        chosen = numbers
    elif count == rows:
        chosen = [steps[image.name] for image in images]
    else:
        raise BadRecord(
            f"{track.path}: has {rows} rows for {count} time steps, and the images' names are not row numbers; give a "
            "row per time step, or rows with times (TUM)"
        )
    return {image.name: track.world_from_body[row] for image, row in zip(images, chosen, strict=True)}
