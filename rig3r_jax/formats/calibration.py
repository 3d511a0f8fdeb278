"""What a calibration file says of a rig: its cameras, their lenses, and where they sit."""

import dataclasses

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens


@dataclasses.dataclass(frozen=True)
class CalibratedCamera:
    """One camera as a file states it; None for what the file leaves to others."""

    name: str  # as the file has it: a key, or the folder of its images
    lens: Lens | None = None  # pixel centres at +0.5
    size: tuple[int, int] | None = None  # height, width
    rig_from_camera: Float[np.ndarray, "4 4"] | None = None  # metres
    note: str = ""  # how its lens differs from the one that the file states


@dataclasses.dataclass(frozen=True)
class RigCalibration:
    """The cameras of one rig, in the file's order."""

    cameras: tuple[CalibratedCamera, ...]
    frame: str  # what the rig's frame is, in words: that in which a trajectory of the rig is read

    def named(self, name: str) -> CalibratedCamera | None:
        """The camera of this name."""
        return next((camera for camera in self.cameras if camera.name == name), None)

    @property
    def notes(self) -> list[str]:
        """Those of the cameras, each with their names; equal ones in one line."""
        notes = dict.fromkeys(camera.note for camera in self.cameras if camera.note)
        named = {note: ", ".join(camera.name for camera in self.cameras if camera.note == note) for note in notes}
        return [f"{names}: {note}" for note, names in named.items()]


def transform_of(values: object, where: str, tolerance: float = rigid.TOLERANCE) -> Float[np.ndarray, "4 4"]:
    """The rigid transform that a file's nested or flat list of 16 or 12 numbers is; ValueError naming `where`."""
    try:
        numbers = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if len(numbers) not in (12, 16):
        raise ValueError(f"{where} = {values!r} must be 16 numbers, a 4x4 matrix row by row; correct it")
    matrix = np.concatenate([numbers[:12], [0, 0, 0, 1] if len(numbers) == 12 else numbers[12:]]).reshape(4, 4)
    return rigid.nearest_rigid(rigid.check(matrix, where, tolerance=tolerance))


def transform_of_quat_wxyz(quaternion: object, translation: object, where: str) -> Float[np.ndarray, "4 4"]:
    """The rigid transform of a quaternion, scalar FIRST, and a translation; ValueError naming `where`."""
    try:
        w, x, y, z = (float(value) for value in quaternion)
        position = np.array([float(value) for value in translation])
    except (TypeError, ValueError):
        position = np.zeros(0)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ValueError(
            f"{where}: rotation {quaternion!r} and translation {translation!r} must be four numbers, w x y z, and three"
        )
    rigid.check_quat_xyzw([x, y, z, w], where)
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(np.array([x, y, z, w])), position)


def quat_wxyz_of(a_from_b: Float[np.ndarray, "4 4"]) -> list[float]:
    """Its rotation as a unit quaternion, scalar first."""
    x, y, z, w = rigid.quat_xyzw_from_rotation(a_from_b[:3, :3]).tolist()
    return [w, x, y, z]
