"""The rig of a reconstruction as files hold it: its cameras' places, the folders of their images, its moments."""

import dataclasses
import os.path
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.schema import PhysicalCamera, Reconstruction


@dataclasses.dataclass(frozen=True)
class Rig:
    """The cameras whose places in the rig are known, and which of them is the reference sensor of COLMAP."""

    cameras: tuple[PhysicalCamera, ...]
    reference: PhysicalCamera  # the first whose place is the identity, else the first

    @property
    def is_moved(self) -> bool:
        """Whether the rig's frame is no camera's, so that files which want one have the reference camera's."""
        return not np.array_equal(self.reference.rig_from_camera, np.eye(4))

    def reference_from_camera(self, camera: PhysicalCamera) -> Float[np.ndarray, "4 4"]:
        """Its place where the rig's frame is the reference camera's; that one's exactly the identity."""
        if camera is self.reference:
            return np.eye(4)
        if not self.is_moved:
            return np.asarray(camera.rig_from_camera, np.float64)
        return rigid.invert(self.reference.rig_from_camera) @ camera.rig_from_camera


def rig_of(reconstruction: Reconstruction, ids: Iterable[int] | None = None) -> Rig | None:
    """The rig, of the cameras with these ids or of all; None where no place is known."""
    placed = [camera for camera in reconstruction.cameras if camera.rig_from_camera is not None]
    if ids is not None:
        placed = [camera for camera in placed if camera.id in set(ids)]
    if not placed:
        return None
    identities = (camera for camera in placed if np.array_equal(camera.rig_from_camera, np.eye(4)))
    return Rig(tuple(placed), next(identities, placed[0]))


def moments(reconstruction: Reconstruction, rig: Rig) -> list[list[int]]:
    """The rig's images, by number, that were taken at one moment, at most one of each camera; in order of time.

    Where all of them have times, equal times are one moment. Else, as in COLMAP, equal names below the cameras'
    folders are.
    """
    ids = {camera.id for camera in rig.cameras}
    numbers = [number for number, image in enumerate(reconstruction.images) if image.camera in ids]
    images = {number: reconstruction.images[number] for number in numbers}
    timed = all(image.time is not None for image in images.values())
    if timed:
        numbers.sort(key=lambda number: images[number].time)
    folders = {} if timed else folders_of(reconstruction)
    groups: dict[object, list[list[int]]] = {}
    ordered: list[list[int]] = []
    for number in numbers:
        image = images[number]
        key = image.time if timed else image.name[len(folders[image.camera]) :]
        group = groups.setdefault(key, [])
        free = (moment for moment in group if image.camera not in {images[other].camera for other in moment})
        if (moment := next(free, None)) is None:
            group.append(moment := [])
            ordered.append(moment)
        moment.append(number)
    return ordered


def folders_of(reconstruction: Reconstruction) -> dict[int, str]:
    """Of cameras with images, by id, the folder below which all of a camera's images lie; "" for none."""
    parents: dict[int, list[str]] = {}
    for image in reconstruction.images:
        if image.camera is not None:
            parents.setdefault(image.camera, []).append(os.path.dirname(image.name))
    return {camera: os.path.commonpath(folders) for camera, folders in parents.items()}


def file_names(names: Sequence[str]) -> list[str]:
    """Names as plain file names, each once: a name may hold slashes, spaces and whatever a user typed."""
    plain: list[str] = []
    for name in names:
        base = re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "_"
        number, candidate = 2, base
        while candidate.lower() in {other.lower() for other in plain}:
            number, candidate = number + 1, f"{base}_{number}"
        plain.append(candidate)
    return plain
