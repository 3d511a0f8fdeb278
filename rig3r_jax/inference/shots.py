"""Photographs as a model sees them, each with what is known of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import Lenses, stacked
from rig3r_jax.geometry.reconstruct import seen_lens
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.known_lenses import calibration_of, camera_of, check_size
from rig3r_jax.inference.masks import read_mask
from rig3r_jax.inference.photographs import Photograph, read_upright
from rig3r_jax.inference.seen import fitted_crop, seen_image, seen_mask
from rig3r_jax.schema import Crop, RigMetadata, Views


@dataclasses.dataclass(frozen=True)
class Shot:
    """One photograph. The original's pixels are not kept."""

    photograph: Photograph
    height: int  # pixels of the upright original
    width: int
    seen: UInt8[np.ndarray, "h w 3"]  # what the model sees
    is_image: Bool[np.ndarray, "h w"]  # of the pixels seen: no padding
    counts: Bool[np.ndarray, "h w"]  # of the pixels seen: no padding, not masked; others become no points
    lens: Lens | None  # of the upright original, where it is known
    front_from_camera: Float[np.ndarray, "4 4"] | None  # metres, in the frame that a model takes for the rig's
    time: float | None  # seconds since the first image's
    world_from_camera: Float[np.ndarray, "4 4"] | None  # where it is known
    rig_from_camera: Float[np.ndarray, "4 4"] | None = None  # as it was given, metres

    @property
    def crop(self) -> Crop:
        """What the model sees of the original."""
        return fitted_crop(self.height, self.width, self.seen.shape[:2])

    @property
    def seen_lens(self) -> Lens | None:
        """The lens of what the model sees."""
        return self.lens and seen_lens(self.lens, self.crop)


def read_shots(photographs: Sequence[Photograph], knowledge: Known, size: tuple[int, int], fill: int) -> list[Shot]:
    """The photographs, one at a time in memory, as a model of input `size` (height, width) sees them.

    Raises:
        ValueError: a rig, a calibration or a mask that does not fit an image; names file and remedy.
        BadRecord: an image that does not decode.
    """
    start = next((knowledge.times[p.name] for p in photographs if p.name in knowledge.times), None)
    front = _front(knowledge.rig) if knowledge.rig else None
    return _with_lenses_of_cameras([_read(image, knowledge, size, fill, start, front) for image in photographs])


def lens_notes(shots: Sequence[Shot], knowledge: Known) -> list[str]:
    """How many images have the lens that is stated of others of their camera, and cameras of which several are."""
    notes = []
    for (camera, *_), of_camera in _alike(shots).items():
        without = [shot for shot in of_camera if not _has_lens(calibration_of(knowledge, shot.photograph))]
        if added := sum(shot.lens is not None for shot in without):
            notes.append(f"the lens of {added} other images of {camera} is that of its images whose lens is given")
        elif without and len(_distinct_lenses(of_camera)) > 1:
            notes.append(f"several lenses are given of images of {camera}: {len(without)} others have a predicted one")
    return notes


def views_of(shots: Sequence[Shot]) -> Views:
    """What the model sees and is told of the images of one pass. The rig is told of all or of none, as in training."""
    ids = {name: number for number, name in enumerate(dict.fromkeys(shot.photograph.camera for shot in shots))}
    has_camera = np.array([shot.photograph.camera is not None for shot in shots])
    has_time = np.array([shot.time is not None for shot in shots])
    has_rig = all(shot.lens is not None and shot.front_from_camera is not None for shot in shots)
    rig_from_camera = [shot.front_from_camera if has_rig else np.eye(4) for shot in shots]
    intrinsics, distortion = np.tile(np.eye(3, dtype=np.float32), (len(shots), 1, 1)), None
    if has_rig:
        lenses = stacked([shot.seen_lens for shot in shots])
        intrinsics = lenses.intrinsics.astype(np.float32)
        if isinstance(lenses, Lenses):
            coefficients = lenses.distortion.coefficients.astype(np.float32)
            distortion = lenses.distortion.replace(coefficients=coefficients)
    first_time = next((shot.time for shot in shots if shot.time is not None), 0.0)
    metadata = RigMetadata(
        frame_index=np.arange(len(shots), dtype=np.int32),
        camera_id=np.array([ids[shot.photograph.camera] for shot in shots], np.int32),
        time=np.array([0.0 if shot.time is None else shot.time - first_time for shot in shots], np.float32),
        rig_from_camera=np.stack(rig_from_camera).astype(np.float32),
        intrinsics=intrinsics,
        has_camera_id=has_camera,
        has_time=has_time,
        has_rig=np.full(len(shots), has_rig),
        distortion=distortion,
    )
    return Views(np.stack([shot.seen for shot in shots]), np.stack([shot.is_image for shot in shots]), metadata)


def _read(
    photograph: Photograph,
    knowledge: Known,
    size: tuple[int, int],
    fill: int,
    start: float | None,
    front: Float[np.ndarray, "4 4"] | None,
) -> Shot:
    in_rig, time = knowledge.rig and camera_of(knowledge.rig, photograph), knowledge.times.get(photograph.name)
    calibrated = calibration_of(knowledge, photograph)
    image = read_upright(photograph)
    height, width = image.shape[:2]
    if calibrated:
        check_size(photograph, (height, width), calibrated)
    seen, is_image = seen_image(image, size, fill)
    counts = is_image
    mask = knowledge.masks.get(photograph.name)
    if mask is not None:
        counts = is_image & seen_mask(read_mask(mask, (height, width)), size)
    place = in_rig.rig_from_camera if in_rig else None
    return Shot(
        photograph=photograph,
        height=height,
        width=width,
        seen=seen,
        is_image=is_image,
        counts=counts,
        lens=calibrated.lens if calibrated else None,
        front_from_camera=None if place is None or front is None else rigid.invert(front) @ place,
        time=None if time is None or start is None else time - start,
        world_from_camera=knowledge.world_from_camera.get(photograph.name),
        rig_from_camera=place,
    )


def _with_lenses_of_cameras(shots: Sequence[Shot]) -> list[Shot]:
    """The same; images without a lens have that of their camera's other images of their size, where that is one."""
    lens_of = {}  # by name
    for of_camera in _alike(shots).values():
        lenses = _distinct_lenses(of_camera)
        if len(lenses) == 1:
            lens_of |= {shot.photograph.name: lenses[0] for shot in of_camera}
    return [dataclasses.replace(shot, lens=lens_of.get(shot.photograph.name, shot.lens)) for shot in shots]


def _alike(shots: Sequence[Shot]) -> dict[tuple[str, int, int], list[Shot]]:
    """By camera, height and width; those whose camera is known."""
    groups: dict[tuple[str, int, int], list[Shot]] = {}
    for shot in shots:
        if shot.photograph.camera is not None:
            groups.setdefault((shot.photograph.camera, shot.height, shot.width), []).append(shot)
    return groups


def _distinct_lenses(shots: Sequence[Shot]) -> list[Lens]:
    return list(dict.fromkeys(shot.lens for shot in shots if shot.lens is not None))


def _has_lens(calibration: CalibratedCamera | None) -> bool:
    return calibration is not None and calibration.lens is not None


def _front(rig: RigCalibration) -> Float[np.ndarray, "4 4"] | None:
    """rig_from_camera of the camera whose frame the model takes for the rig's: that at the origin, else the first."""
    places = [camera.rig_from_camera for camera in rig.cameras if camera.rig_from_camera is not None]
    at_origin = [place for place in places if np.allclose(place, np.eye(4), atol=1e-9)]
    return (at_origin or places or [None])[0]
