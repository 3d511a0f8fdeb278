"""A folder as a recording: images, calibration, poses, times, depths and masks together, and told in a table."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut
from rig3r_jax.data.sources.folder.calibration import find_calibration, fitted, read_calibration
from rig3r_jax.data.sources.folder.extras import Extras
from rig3r_jax.data.sources.folder.images import (
    NOTHING,
    PHOTOGRAPHS,
    ImageFile,
    list_images,
    read_times,
    time_steps,
)
from rig3r_jax.data.sources.folder.lidar import Sweeps, find_sweeps
from rig3r_jax.data.sources.folder.poses import (
    POSE_FILES,
    Poses,
    find_poses,
    in_metres,
    poses_of_images,
    read_folder_poses,
)
from rig3r_jax.data.sources.folder.source import Folder
from rig3r_jax.data.sources.recorded_rig import RecordedCamera, Recording, Shot, in_order
from rig3r_jax.data.sources.rig_from_poses import check_unit, rig_from_poses
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.geometry.camera import Lens


def read_recording(options: Folder, name: str, folder: Path) -> Recording:
    """Everything but images, depths and masks themselves, which scenes read.

    ValueError naming the file, the value, the rule and the remedy for what keeps the whole recording from being used;
    an image without a pose or a lens costs that image.
    """
    calibration_file = find_calibration(folder, options.calibration)
    calibration = read_calibration(calibration_file) if calibration_file else None
    images, pose_file, poses = _images_and_poses(options, folder, calibration)
    calibrated = fitted(calibration_file, calibration, _names(images)) if calibration else {}
    imaged = _imaged_cameras(images, poses, calibrated)

    times, times_from = read_times(folder, imaged.images, options.times, options.time_unit, poses.times)
    steps, steps_by = time_steps(imaged.images, times, poses.frames, options.step_tolerance)
    stepped = [image for image in imaged.images if image.name in steps]
    places = {camera: imaged.places.get(camera) for camera in _names(imaged.images)}
    if len(places) == 1:
        places = {camera: np.eye(4) if place is None else place for camera, place in places.items()}
    world_from_camera = poses_of_images(poses, stepped, times, steps, places, options.longest_gap)
    times = times or {image.name: steps[image.name] * options.interval for image in stepped}
    usable = [image for image in stepped if image.name in world_from_camera and image.name in times]
    usable, repeated = _each_once(usable, steps)
    if not usable:
        raise BadRecord(
            f"{pose_file}: has a pose for none of the {len(images)} images, such as {images[0].name}; it has them for "
            f"{', '.join([*poses.images][:3]) or 'other times'}; name both alike"
        )

    numbers = {camera: number for number, camera in enumerate(_names(usable))}
    shots = in_order([
        Shot(numbers[image.camera], steps[image.name], times[image.name], image.path, world_from_camera[image.name])
        for image in usable
    ])  # fmt: skip
    if calibration and poses.rig is None:  # whose pose tells those of the cameras by the calibration
        check_unit(shots, [places[camera] for camera in numbers], str(pose_file), str(calibration_file))
    rig_is_stated = all(places[camera] is not None for camera in numbers)
    places, rig_note = _all_placed(places, shots, list(numbers), calibration.frame if calibration else poses.source)
    cameras = tuple(
        RecordedCamera(camera, imaged.lenses[camera], imaged.sizes.get(camera), places[camera]) for camera in numbers
    )
    sweeps = _sweeps(options, folder, usable, times, poses, world_from_camera, places)
    image_of, listed = {image.path: image for image in usable}, frozenset(image.name for image in images)
    extras = Extras(options, folder, poses, image_of, listed)
    shots, depth_row = extras.with_depths(shots, sweeps)
    shots, mask_row = extras.with_masks(shots)
    left_out = [*imaged.left_out(pose_file), *repeated]
    left_out += _unposed(imaged.images, [*usable, *_named(imaged.images, repeated)], times, pose_file, steps)

    kinds = collections.Counter(camera.lens.kind for camera in cameras)
    apart = f", {options.interval:g} s apart" if times_from == NOTHING else ""
    whole = f"{len(usable)} of {len(images)} have lens, pose and time"
    rows = [
        ("images", f"{options.images}/", f"{whole}, {len(cameras)} cameras"),
        ("lenses", imaged.lenses_from or calibration_file.name, ", ".join(f"{n} {kind}" for kind, n in kinds.items())),
        ("rig", calibration_file.name if calibration_file else poses.source, rig_note),
        ("poses", poses.source, _counted(poses, world_from_camera, {image.name for image in images})),
        ("times", times_from, f"{shots[-1].step + 1} time steps by {steps_by}{apart}"),
        ("depth", *depth_row),
        ("masks", *mask_row),
    ]  # fmt: skip
    ordered = len(cameras) > 1 or times_from not in (NOTHING, PHOTOGRAPHS)
    notes = (*_table(rows), *(calibration.notes if calibration else ()))
    return Recording(name, cameras, shots, tuple(left_out), notes, ordered, rig_is_stated)


def _images_and_poses(
    options: Folder, folder: Path, calibration: RigCalibration | None
) -> tuple[tuple[ImageFile, ...], Path, Poses]:
    """The images, and the file of the poses with what it says in metres. BadRecord where one of them is not there."""
    prefixes = [camera.name for camera in calibration.cameras] if calibration else []
    images = list_images(folder / options.images, prefixes)
    pose_file = find_poses(folder, options.poses)
    if pose_file is None:
        raise BadRecord(f"{folder}: has no poses, which training needs; add {POSE_FILES}")
    poses = read_folder_poses(pose_file, [image.name for image in images], options.time_unit)
    poses = in_metres(poses, options.metres)
    if folder / options.images == folder:  # where depths and masks lie too
        images = tuple(image for image in images if image.name in poses.images)
        if not images:
            listed = ", ".join([*poses.images][:3])
            raise BadRecord(f"{pose_file}: names no image that is here, but {listed}; put them where it says")
    return images, pose_file, poses


def _all_placed(
    places: Mapping[str, np.ndarray | None], shots: Sequence[Shot], cameras: Sequence[str], frame: str
) -> tuple[dict[str, np.ndarray], str]:
    """rig_from_camera of `cameras`, computed from the poses where one is not stated, and a sentence on the rig."""
    if any(places[camera] is None for camera in cameras):
        first_from, sentence = rig_from_poses(shots, len(cameras), range(1, len(cameras)))
        return {camera: first_from.get(number, np.eye(4)) for number, camera in enumerate(cameras)}, sentence
    if len(cameras) == 1:
        return dict(places), "one camera, which is its own rig"
    return dict(places), f"rig frame: {frame}"


def _counted(poses: Poses, world_from_camera: Mapping[str, np.ndarray], images: set[str]) -> str:
    """How many images have a pose, and what of the file is of no use."""
    absent = len(set(poses.images) - images)
    tracks = [*poses.cameras.values(), *([poses.rig] if poses.rig else [])]
    bad_rows = [reason for track in tracks for reason in track.bad_rows]
    text = f"{len(world_from_camera)} images"
    text += f"; {absent} of images that are not here" if absent else ""
    return text + (f"; {len(bad_rows)} rows that are no pose, such as {bad_rows[0]}" if bad_rows else "")


def _sweeps(
    options: Folder,
    folder: Path,
    images: Sequence[ImageFile],
    times: Mapping[str, float],
    poses: Poses,
    world_from_camera: Mapping[str, np.ndarray],
    places: Mapping[str, np.ndarray],
) -> Sweeps | None:
    world_from_rig = {
        image.name: world_from_camera[image.name] @ np.linalg.inv(places[image.camera]) for image in images
    }
    track = poses.rig
    return find_sweeps(
        folder,
        images,
        times,
        world_from_rig,
        None if track is None or track.times is None else (track.times, track.world_from_body),
        options.lidar_frame,
        options.lidar_columns,
        options.longest_gap,
        options.time_unit,
    )


@dataclasses.dataclass(frozen=True)
class _ImagedCameras:
    """What calibration and poses say of the cameras of the images."""

    images: tuple[ImageFile, ...]  # of which the lens is known
    unposed: tuple[ImageFile, ...]  # whose lens the file of the poses would tell, if it listed them
    without_lens: tuple[ImageFile, ...]
    lenses: dict[str, Lens]  # by camera, as the rest
    sizes: dict[str, tuple[int, int]]
    places: dict[str, np.ndarray]  # rig_from_camera, of those that have one
    lenses_from: str  # the file of the poses, in words, where that tells lenses; else ""

    def left_out(self, pose_file: Path) -> list[LeftOut]:
        """The images without a lens."""
        reason = "neither a calibration nor the file of the poses tells its lens; add it to the calibration"
        return [
            *(LeftOut(image.name, UNMATCHED, f"{pose_file}: has no pose of {image.name}") for image in self.unposed),
            *(LeftOut(image.name, "row", f"{image.path}: {reason}") for image in self.without_lens),
        ]


def _imaged_cameras(
    images: Sequence[ImageFile], poses: Poses, calibrated: Mapping[str, CalibratedCamera]
) -> _ImagedCameras:
    """Lenses, sizes and places of the cameras: those of the calibration, else of the file of the poses.

    Where that has several lenses for one folder of images, each is a camera: <folder>_2 and so on. Places are all of
    the calibration, where there is one: the two files need not have the same rig frame.
    """
    lenses, sizes, places, kept, unposed, without_lens = {}, {}, {}, [], [], []
    from_poses = False
    names_of_folder: dict[str, dict[object, str]] = {}
    for image in images:
        camera, posed = calibrated.get(image.camera), poses.images.get(image.name)
        name, stated = image.camera, camera or posed
        lens, size = (camera.lens, camera.size) if camera else (None, None)
        if lens is None and posed is not None and posed.lens is not None:
            lens, size, from_poses = posed.lens, posed.size, True
            names = names_of_folder.setdefault(image.camera, {})
            name = names.setdefault((lens, size), f"{name}_{len(names) + 1}" if names else name)
        if lens is None:
            (unposed if poses.images and posed is None else without_lens).append(image)
            continue
        lenses[name] = lens
        sizes |= {name: size} if size else {}
        places |= {name: stated.rig_from_camera} if stated.rig_from_camera is not None else {}
        kept.append(dataclasses.replace(image, camera=name))
    if not kept:
        raise BadRecord(
            f"{images[0].path}: no file tells its lens, nor that of any other image; add a rig_config.json with "
            "camera_model_name and camera_params, a camchain.yaml, transforms.json or a COLMAP model"
        )
    source = poses.source if from_poses else ""
    return _ImagedCameras(tuple(kept), tuple(unposed), tuple(without_lens), lenses, sizes, places, source)


def _names(images: Sequence[ImageFile]) -> list[str]:
    """Of the cameras, each once, in order."""
    return list(dict.fromkeys(image.camera for image in images))


def _each_once(images: Sequence[ImageFile], steps: Mapping[str, int]) -> tuple[list[ImageFile], list[LeftOut]]:
    """The first image of every camera and time step, and the others."""
    first: dict[tuple[str, int], ImageFile] = {}
    others = []
    for image in images:
        kept = first.setdefault((image.camera, steps[image.name]), image)
        if kept is not image:
            reason = f"{image.path}: is of the same camera and time step as {kept.path.name}; remove one of them"
            others.append(LeftOut(image.name, "row", reason))
    return list(first.values()), others


def _named(images: Sequence[ImageFile], left_out: Sequence[LeftOut]) -> list[ImageFile]:
    names = {entry.frame for entry in left_out}
    return [image for image in images if image.name in names]


def _unposed(
    images: Sequence[ImageFile],
    usable: Sequence[ImageFile],
    times: Mapping[str, float],
    pose_file: Path,
    steps: Mapping[str, int],
) -> list[LeftOut]:
    used, left_out = {image.name for image in usable}, []
    for image in images:
        if image.name in used:
            continue
        reason = f"{pose_file}: has no pose of {image.name}, or near it in time"
        if image.name not in steps or image.name not in times:
            reason = f"{image.path}: nothing tells its time, as it does of others; add a row of times.txt"
        left_out.append(LeftOut(image.name, UNMATCHED, reason))
    return left_out


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Rows of what was read, from where and how much, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{what:{widths[0]}}  {file:{widths[1]}}  {count}".rstrip() for what, file, count in rows]
