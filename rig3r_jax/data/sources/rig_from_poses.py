"""Where the cameras of a rig sit, found from the poses of their images, where no calibration says."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.recorded_rig import Shot
from rig3r_jax.geometry import rigid

# Of single images about the mean. A rig that moves more between the exposures of its cameras is none.
MAX_DEGREES, MAX_SHARE = 2.0, 0.05  # the share is of the distance between the cameras
_NO_MOTION = 0.1  # metres that cameras may move against each other, or lie apart, whatever the share
_SAME_UNIT = 1.25  # by how much the distance of two cameras may differ


def check_unit(
    shots: Sequence[Shot], places: Sequence[Float[np.ndarray, "4 4"] | None], poses: str, calibration: str
) -> None:
    """BadRecord where the poses are of another length unit than the calibration, by the cameras that lie farthest
    apart: as those of a model of images alone are, beside a calibration in metres.

    Args:
        shots: with poses of single images.
        places: rig_from_camera of every camera by the calibration, None where it does not say.
        poses: their file, for messages.
        calibration: its file.
    """
    if places[0] is None:
        return
    by_camera = {number: rigid.invert(places[0]) @ place for number, place in enumerate(places) if place is not None}
    apart = {number: float(np.linalg.norm(place[:3, 3])) for number, place in by_camera.items()}
    farthest = max(apart, key=lambda number: apart[number])
    steps = {shot.step: shot.world_from_camera for shot in shots if shot.camera == 0}
    distances = [
        np.linalg.norm(shot.world_from_camera[:3, 3] - steps[shot.step][:3, 3])
        for shot in shots
        if shot.camera == farthest and shot.step in steps
    ]
    if not distances or apart[farthest] < _NO_MOTION:
        return
    ratio = float(np.median(distances)) / apart[farthest]
    if not 1 / _SAME_UNIT <= ratio <= _SAME_UNIT:
        raise BadRecord(
            f"{poses}: two cameras lie {ratio * apart[farthest]:.4g} apart, by {calibration} {apart[farthest]:.4g} m; "
            f"set metres={1 / ratio:.4g} if the poses are in another unit, or correct one of the two files"
        )


def rig_from_poses(
    shots: Sequence[Shot], count: int, unplaced: Sequence[int]
) -> tuple[dict[int, Float[np.ndarray, "4 4"]], str]:
    """first_from_camera of the `unplaced` of `count` cameras, and a sentence on how well they are told.

    The mean over the steps at which both the first camera and the other one have an image. Cameras that never share a
    step with the first are an unordered set: the identity. Where the cameras move against each other, all are.
    """
    by_step: dict[int, dict[int, np.ndarray]] = {}
    for shot in shots:
        by_step.setdefault(shot.step, {})[shot.camera] = shot.world_from_camera
    places: dict[int, np.ndarray] = {}
    worst_degrees, worst_metres = 0.0, 0.0
    for camera in unplaced:
        pairs = [(poses[0], poses[camera]) for poses in by_step.values() if {0, camera} <= set(poses)]
        if not pairs:
            continue
        relative = np.stack([rigid.invert(first) @ other for first, other in pairs])
        mean = rigid.from_rotation_translation(
            rigid.nearest_rotation(relative[:, :3, :3].mean(axis=0)), np.median(relative[:, :3, 3], axis=0)
        )
        traces = np.einsum("nij,ij->n", relative[:, :3, :3], mean[:3, :3])
        degrees = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
        metres = np.linalg.norm(relative[:, :3, 3] - mean[:3, 3], axis=1)
        worst_degrees, worst_metres = max(worst_degrees, np.median(degrees)), max(worst_metres, np.median(metres))
        if np.median(degrees) > MAX_DEGREES or np.median(metres) > MAX_SHARE * np.linalg.norm(mean[:3, 3]) + _NO_MOTION:
            apart_by = f"{np.median(degrees):.2g} degrees, {np.median(metres):.2g} m"
            sentence = f"cameras move against each other (median {apart_by}): taken as single cameras, not as a rig"
            return {number: np.eye(4) for number in unplaced}, sentence
        places[camera] = mean
    apart = [number for number in unplaced if number not in places]
    all_places = places | {number: np.eye(4) for number in apart}
    if not places:
        return all_places, "no two cameras share a time step: taken as single cameras, not as a rig"
    sentence = f"rig from poses: single images about it by {worst_degrees:.2g} degrees, {worst_metres:.2g} m (median)"
    return all_places, sentence + (f"; {len(apart)} of {count} cameras share no step with the first" if apart else "")
