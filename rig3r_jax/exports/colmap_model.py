"""A COLMAP model, binary: cameras, images, points3D, rigs and frames; through pycolmap.

Poses of images are those of the reconstruction: of a rig's images those that obey it (camera_from_rig rig_from_world,
to `rig.OBEYS`) share the frame of their moment, any other has a frame of its own in the same rig. Pixel centres lie at
+0.5 on both sides. Every point has one observation: the pixel that it comes from.
"""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.exports.choose import ChosenPoints
from rig3r_jax.exports.job import CannotHold, Job
from rig3r_jax.exports.rig import Rig, agree, moments, nearest_inverse, rig_from_world, rig_of
from rig3r_jax.formats.colmap_lenses import colmap_of_lens
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import Reconstruction

if typing.TYPE_CHECKING:
    import pycolmap

_ON_PIXEL = 0.1  # most that a median point may be off its pixel without being told
MODEL = "sparse/0"  # below the folder, where COLMAP and its users look


def write(job: Job, folder: Path) -> Sequence[str]:
    """Writes the model below `folder`; CannotHold for a lens that COLMAP has no model of."""
    import pycolmap  # of the extra `data`

    reconstruction, model = job.reconstruction, pycolmap.Reconstruction()
    camera_ids = _add_cameras(model, reconstruction)
    rig = rig_of(reconstruction, ids={image.camera for image in reconstruction.images} - {None})
    frames = _frames(reconstruction, rig)
    rig_ids = _add_rigs(model, reconstruction, rig, camera_ids)
    for frame_id, (numbers, place) in enumerate(frames, start=1):
        frame = pycolmap.Frame()
        frame.frame_id, frame.rig_id = frame_id, rig_ids[camera_ids[numbers[0]]]
        for number in numbers:
            frame.add_data_id(pycolmap.data_t(_sensor(camera_ids[number]), number + 1))
        frame.rig_from_world = pycolmap.Rigid3d(place[:3])
        model.add_frame(frame)
    frame_of = {number: frame_id for frame_id, (numbers, _) in enumerate(frames, start=1) for number in numbers}
    points, behind = _in_front(job.sparse, reconstruction)
    for number, image in enumerate(reconstruction.images):
        pixels = np.zeros((0, 2)) if points is None else points.pixels[points.image == number]
        entry = pycolmap.Image(image.name, pixels, camera_ids[number], number + 1)
        entry.frame_id = frame_of[number]
        model.add_image(entry)
    for frame_id in range(1, len(frames) + 1):
        model.register_frame(frame_id)
    off = 0.0 if points is None else _add_points(model, points)
    (folder / MODEL).mkdir(parents=True)
    model.write_binary(str(folder / MODEL))
    notes = [] if points is None else [points.counted()]
    if behind:
        notes.append(f"{behind:,} points beside or behind their camera are left out: COLMAP projects none of them")
    if off > _ON_PIXEL:
        notes.append(f"points as the model says them lie {off:.3g} px (median) off the pixels that they come from")
    return notes + _notes(reconstruction, rig, frames)


def _add_cameras(model: "pycolmap.Reconstruction", reconstruction: Reconstruction) -> list[int]:
    """COLMAP's camera of every image: one per physical camera, lens and size; images of no camera have one each."""
    import pycolmap

    ids: dict[object, int] = {}
    camera_ids = []
    for number, image in enumerate(reconstruction.images):
        own = number if image.camera is None else None
        key = (image.camera, own, image.width, image.height, tuple(image.lens.to_numbers().items()))
        if key not in ids:
            ids[key] = len(ids) + 1
            try:
                name, parameters = colmap_of_lens(image.lens)
            except ValueError as error:
                raise CannotHold(f"{image.name}: {error}") from error
            size = {"width": image.width, "height": image.height}
            model.add_camera(pycolmap.Camera(model=name, params=parameters, camera_id=ids[key], **size))
        camera_ids.append(ids[key])
    return camera_ids


def _frames(reconstruction: Reconstruction, rig: Rig | None) -> list[tuple[list[int], Float[np.ndarray, "4 4"]]]:
    """(numbers of its images, rig_from_world) of every frame: of those of the rig, then of images of no rig."""
    images, frames, done = reconstruction.images, [], set()
    for moment in moments(reconstruction, rig) if rig else []:
        waiting = list(moment)
        while waiting:
            place = rig_from_world(reconstruction, rig, waiting[0])
            together = [n for n in waiting if agree(place, rig_from_world(reconstruction, rig, n))]
            frames.append((together, place))
            waiting = [number for number in waiting if number not in together]
            done.update(together)
    alone = (number for number in range(len(images)) if number not in done)
    return frames + [([number], nearest_inverse(images[number].world_from_camera)) for number in alone]


def _add_rigs(
    model: "pycolmap.Reconstruction", reconstruction: Reconstruction, rig: Rig | None, camera_ids: Sequence[int]
) -> dict[int, int]:
    """The rig's number of each of COLMAP's cameras: 1 is the reconstruction's rig, every other camera is one alone."""
    import pycolmap

    rig_ids: dict[int, int] = {}
    sensors = {}  # of the rig, by COLMAP's id: the physical camera
    for image, camera_id in zip(reconstruction.images, camera_ids, strict=True):
        camera = reconstruction.camera_of(image)
        if rig is not None and camera in rig.cameras:
            sensors[camera_id] = camera
    if sensors:
        entry = pycolmap.Rig()
        entry.rig_id = 1
        first = next(camera_id for camera_id, camera in sensors.items() if camera is rig.reference)
        entry.add_ref_sensor(_sensor(first))
        for camera_id, camera in sensors.items():
            rig_ids[camera_id] = 1
            if camera_id != first:
                place = nearest_inverse(rig.reference_from_camera(camera))
                entry.add_sensor(_sensor(camera_id), pycolmap.Rigid3d(place[:3]))
        model.add_rig(entry)
    for camera_id in sorted(set(camera_ids) - set(sensors)):
        entry = pycolmap.Rig()
        entry.rig_id = rig_ids[camera_id] = len(set(rig_ids.values())) + 1
        entry.add_ref_sensor(_sensor(camera_id))
        model.add_rig(entry)
    return rig_ids


def _sensor(camera_id: int) -> "pycolmap.sensor_t":
    import pycolmap

    return pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id)


def _in_front(points: ChosenPoints | None, reconstruction: Reconstruction) -> tuple[ChosenPoints | None, int]:
    """The points before the image planes of their cameras, and how many others there are."""
    if points is None:
        return None, 0
    z_from_world = rigid.invert(reconstruction.world_from_camera)[points.image, 2]
    z = np.einsum("nj,nj->n", z_from_world[:, :3], points.points_world) + z_from_world[:, 3]
    front = np.flatnonzero(z > 0)
    return points.take(front), len(points) - len(front)


def _add_points(model: "pycolmap.Reconstruction", points: ChosenPoints) -> float:
    """Adds them; the median of their reprojection errors in pixels."""
    import pycolmap

    starts = np.searchsorted(points.image, points.image)  # points are in the order of the images
    places = np.arange(len(points)) - starts
    rows = zip(points.points_world, points.colors, points.image.tolist(), places.tolist(), strict=True)
    for point, color, image, place in rows:
        model.add_point3D(point, pycolmap.Track([pycolmap.TrackElement(image + 1, place)]), color)
    model.update_point_3d_errors()
    return float(np.median([point.error for point in model.points3D.values()] or [0.0]))


def _notes(reconstruction: Reconstruction, rig: Rig | None, frames: Sequence[tuple[list[int], object]]) -> list[str]:
    if rig is None:
        return []
    notes = []
    if rig.is_moved:
        notes.append(f"the rig's frame is that of camera {rig.reference.name}: COLMAP's is always a camera's")
    placed = {camera.id for camera in rig.cameras}
    rig_frames = sum(reconstruction.images[numbers[0]].camera in placed for numbers, _ in frames)
    if more := rig_frames - len(moments(reconstruction, rig)):
        notes.append(f"{more} frames more than moments: their images' poses are off the rig's")
    if absent := len([c for c in reconstruction.cameras if c.id not in {i.camera for i in reconstruction.images}]):
        notes.append(f"{absent} cameras without images are left out: COLMAP wants the size of their images")
    return notes
