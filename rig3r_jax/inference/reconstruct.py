"""From photographs and what is known of them to cameras and points, by a trained model."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import stacked
from rig3r_jax.geometry.reconstruct import SourceImage, reconstruction_of, seen_lens
from rig3r_jax.geometry.rig_poses import world_from_rigs
from rig3r_jax.inference.model import Model
from rig3r_jax.inference.photographs import Photograph, read_upright
from rig3r_jax.inference.seen import fitted_crop, seen_image
from rig3r_jax.schema import Crop, PhysicalCamera, Reconstruction, RigMetadata, Views


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known beside the pixels; what is not is None or absent."""

    rig: RigCalibration | None = None  # its cameras by the folders of their images; lenses of the upright originals
    times: Mapping[str, float] = dataclasses.field(default_factory=dict)  # seconds, by name of the image


@dataclasses.dataclass(frozen=True)
class _Shot:
    """One photograph as the model sees it, with what is known of it. The original's pixels are not kept."""

    photograph: Photograph
    height: int  # pixels of the upright original
    width: int
    seen: UInt8[np.ndarray, "s s 3"]
    seen_mask: Bool[np.ndarray, "s s"]
    calibrated: CalibratedCamera | None
    front_from_camera: Float[np.ndarray, "4 4"] | None  # of the rig, metres
    time: float | None  # seconds since the first image's

    @property
    def lens(self) -> Lens | None:
        return self.calibrated.lens if self.calibrated else None

    @property
    def crop(self) -> Crop:
        return fitted_crop(self.height, self.width, len(self.seen))


def reconstruct(model: Model, folder: Path, photographs: Sequence[Photograph], known: Known) -> Reconstruction:
    """Cameras and points of the photographs in one pass; the world is the first one's camera.

    Known lenses come out as they went in. With a known rig the cameras of every step sit on it exactly, lengths are
    metres, and what is fitted is one pose of the rig per step. Lengths are in units of the scene otherwise.

    Raises:
        ValueError: nothing to reconstruct, a rig that does not fit the images; names file and remedy.
        BadRecord: an image that does not decode.
    """
    if not photographs:
        raise ValueError(f"{folder}: there is no image to reconstruct")
    shots = _read(photographs, known, model.side)
    views = _views(shots)
    reconstruction = reconstruction_of(model.predict(views), views, _sources(shots), _physical_cameras(shots))
    reconstruction = dataclasses.replace(reconstruction, image_folder=str(folder.absolute()))
    return _on_rig(reconstruction, shots) if reconstruction.length_unit == "metre" else reconstruction


def _read(photographs: Sequence[Photograph], known: Known, side: int) -> list[_Shot]:
    first = known.times.get(photographs[0].name)
    front = _front(known.rig) if known.rig else None
    shots = []
    for photograph in photographs:
        calibrated, time = _calibrated(photograph, known.rig), known.times.get(photograph.name)
        image = read_upright(photograph)
        height, width = image.shape[:2]
        if calibrated and calibrated.size and calibrated.size != (height, width):
            raise ValueError(
                f"{photograph.path}: is {width} x {height} pixels upright, its calibration is for "
                f"{calibrated.size[1]} x {calibrated.size[0]}; give the calibration of these images"
            )
        place = calibrated.rig_from_camera if calibrated else None
        front_from_camera = None if place is None or front is None else rigid.invert(front) @ place
        since = None if time is None or first is None else time - first
        shots.append(_Shot(photograph, height, width, *seen_image(image, side), calibrated, front_from_camera, since))
    return shots


def _calibrated(photograph: Photograph, rig: RigCalibration | None) -> CalibratedCamera | None:
    if rig is None:
        return None
    if photograph.camera is None and len(rig.cameras) == 1:
        return rig.cameras[0]
    camera = rig.named(photograph.camera or "")
    if camera is None:
        names, folder = ", ".join(one.name for one in rig.cameras), photograph.camera or "no folder"
        raise ValueError(
            f"{photograph.path}: the rig's cameras are {names}, this image is of {folder}; put the images of each "
            "camera into a folder of its name, images/<camera>/"
        )
    return camera


def _front(rig: RigCalibration) -> Float[np.ndarray, "4 4"] | None:
    """rig_from_camera of the camera whose frame the model takes for the rig's: that at the origin, else the first."""
    places = [camera.rig_from_camera for camera in rig.cameras if camera.rig_from_camera is not None]
    at_origin = [place for place in places if np.allclose(place, np.eye(4), atol=1e-9)]
    return (at_origin or places or [None])[0]


def _views(shots: Sequence[_Shot]) -> Views:
    """What the model sees and is told. The rig is told of all images or of none, as in training."""
    ids = {name: number for number, name in enumerate(dict.fromkeys(shot.photograph.camera for shot in shots))}
    has_camera = np.array([shot.photograph.camera is not None for shot in shots])
    has_time = np.array([shot.time is not None for shot in shots])
    has_rig = np.array([shot.lens is not None and shot.front_from_camera is not None for shot in shots])
    rig_from_camera = [shot.front_from_camera if has else np.eye(4) for shot, has in zip(shots, has_rig, strict=True)]
    intrinsics, distortion = np.tile(np.eye(3, dtype=np.float32), (len(shots), 1, 1)), None
    if has_rig.all():
        lenses = stacked([seen_lens(shot.lens, shot.crop) for shot in shots])
        intrinsics, distortion = lenses.intrinsics.astype(np.float32), getattr(lenses, "distortion", None)
        if distortion is not None:
            distortion = distortion.replace(coefficients=distortion.coefficients.astype(np.float32))
    has_rig = np.full(len(shots), has_rig.all())
    metadata = RigMetadata(
        frame_index=np.arange(len(shots), dtype=np.int32),
        camera_id=np.array([ids[shot.photograph.camera] for shot in shots], np.int32),
        time=np.array([shot.time or 0.0 for shot in shots], np.float32),
        rig_from_camera=np.stack(rig_from_camera).astype(np.float32),
        intrinsics=intrinsics,
        has_camera_id=has_camera,
        has_time=has_time,
        has_rig=has_rig,
        distortion=distortion,
    )
    return Views(np.stack([shot.seen for shot in shots]), np.stack([shot.seen_mask for shot in shots]), metadata)


def _sources(shots: Sequence[_Shot]) -> list[SourceImage]:
    ids = _camera_ids(shots)
    return [
        SourceImage(
            name=shot.photograph.name,
            width=shot.width,
            height=shot.height,
            crop=shot.crop,
            lens=shot.lens,
            camera=ids.get(shot.photograph.camera),
            time=shot.time,
        )
        for shot in shots
    ]


def _camera_ids(shots: Sequence[_Shot]) -> dict[str | None, int]:
    """Numbers of the physical cameras by name; none for images of no known camera."""
    names = dict.fromkeys(shot.photograph.camera for shot in shots if shot.photograph.camera is not None)
    return {name: number for number, name in enumerate(names)}


def _physical_cameras(shots: Sequence[_Shot]) -> list[PhysicalCamera]:
    ids = _camera_ids(shots)
    first = {shot.photograph.camera: shot for shot in reversed(shots)}
    return [
        PhysicalCamera(number, name, first[name].lens, first[name].front_from_camera) for name, number in ids.items()
    ]


def _on_rig(reconstruction: Reconstruction, shots: Sequence[_Shot]) -> Reconstruction:
    """With the cameras of every step where the rig has them; points move with the camera of their image."""
    if any(shot.front_from_camera is None or shot.photograph.step is None for shot in shots):
        return reconstruction
    rig_from_camera = np.stack([shot.front_from_camera for shot in shots])
    steps = np.array([shot.photograph.step for shot in shots])
    poses = world_from_rigs(reconstruction.world_from_camera, rig_from_camera, steps)
    held = np.stack([poses[step] for step in steps.tolist()]) @ rig_from_camera
    held = rigid.invert(held[0]) @ held
    moves = held @ rigid.invert(reconstruction.world_from_camera)
    images = tuple(
        dataclasses.replace(image, world_from_camera=pose)
        for image, pose in zip(reconstruction.images, held, strict=True)
    )
    points = reconstruction.points
    if points is not None:
        moved = np.einsum("vij,vhwj->vhwi", moves[:, :3, :3], points.points_world) + moves[:, None, None, :3, 3]
        points = dataclasses.replace(points, points_world=moved)
    return dataclasses.replace(reconstruction, images=images, points=points)
