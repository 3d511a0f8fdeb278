"""The rig of a reconstruction as files hold it: its cameras' places, the folders of their images, its moments."""

import dataclasses
import itertools
import os.path
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.schema import PhysicalCamera, Reconstruction

OBEYS = 1e-6  # most that a pose's entries may be off the rig's: of rotations absolute, of places over the largest one


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

    Where all of them have times, equal times are one moment; so are times within half the shortest interval at which a
    camera takes images (any, where none takes two) of images whose poses obey the rig, as its cameras rarely expose at
    once. Else, as in COLMAP, equal names below the cameras' folders are.
    """
    ids = {camera.id for camera in rig.cameras}
    numbers = [number for number, image in enumerate(reconstruction.images) if image.camera in ids]
    if all(reconstruction.images[number].time is not None for number in numbers):
        return _moments_by_time(reconstruction, rig, numbers)
    folders = folders_of(reconstruction)
    groups: dict[object, list[list[int]]] = {}
    ordered: list[list[int]] = []
    for number in numbers:
        image = reconstruction.images[number]
        group = groups.setdefault(image.name[len(folders[image.camera]) :], [])
        if (moment := next((moment for moment in group if _is_free(reconstruction, moment, number)), None)) is None:
            group.append(moment := [])
            ordered.append(moment)
        moment.append(number)
    return ordered


def shortest_interval(reconstruction: Reconstruction) -> float:
    """Seconds between two images of one camera; 0 where no camera has two."""
    times: dict[int, list[float]] = {}
    for image in reconstruction.images:
        if image.camera is not None and image.time is not None:
            times.setdefault(image.camera, []).append(image.time)
    intervals = np.concatenate([np.diff(sorted(of_one)) for of_one in times.values()] or [[]])
    return float(min(intervals[intervals > 0], default=0.0))


def nearest_inverse(a_from_b: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """b_from_a, of a transform whose rotation may be off one by rounding."""
    return rigid.invert(rigid.nearest_rigid(a_from_b))


def rig_from_world(reconstruction: Reconstruction, rig: Rig, number: int) -> Float[np.ndarray, "4 4"]:
    """Where the rig was, of the reference camera, by one of its images."""
    image = reconstruction.images[number]
    return rig.reference_from_camera(reconstruction.camera_of(image)) @ nearest_inverse(image.world_from_camera)


def agree(one: Float[np.ndarray, "4 4"], other: Float[np.ndarray, "4 4"]) -> bool:
    """Whether two poses of the rig are one, to OBEYS."""
    off = np.abs(one - other)
    return bool(off[:, :3].max() <= OBEYS and off[:3, 3].max() <= OBEYS * max(1.0, np.abs(one[:3, 3]).max()))


def _moments_by_time(reconstruction: Reconstruction, rig: Rig, numbers: Sequence[int]) -> list[list[int]]:
    images = reconstruction.images
    reach = shortest_interval(reconstruction) / 2 or np.inf
    places = {number: rig_from_world(reconstruction, rig, number) for number in numbers}
    ordered: list[list[int]] = []
    for number in sorted(numbers, key=lambda number: images[number].time):
        time = images[number].time
        near = [*itertools.takewhile(lambda moment, at=time: at - images[moment[0]].time < reach, reversed(ordered))]
        for moment in reversed(near):
            at_once = time in {images[other].time for other in moment}
            if (at_once or agree(places[moment[0]], places[number])) and _is_free(reconstruction, moment, number):
                moment.append(number)
                break
        else:
            ordered.append([number])
    return ordered


def _is_free(reconstruction: Reconstruction, moment: Sequence[int], number: int) -> bool:
    """Whether no image of the moment is of the same camera."""
    camera = reconstruction.images[number].camera
    return camera not in {reconstruction.images[other].camera for other in moment}


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
