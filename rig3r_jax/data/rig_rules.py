"""Rules on a scene as a whole: images of a step are of one time, steps follow one another, poses agree with the rig."""

from collections.abc import Iterator

import numpy as np

from rig3r_jax.data.scene import BadRecord, Frame, Scene
from rig3r_jax.geometry import rigid

MOST_SKEW = 1.0  # seconds of an image from the median of its step's: rigs expose within a turn of their LiDAR
MOST_GAP, GAP_RATIO = 60.0, 20.0  # seconds from one step to the next, or times the median of the scene's gaps
MOST_ANGLE, TURN_RATE = 5.0, 90.0  # degrees of a camera from where the rig puts it, and per second between exposures
# Of its place: metres, a share of its distance from the front camera (SfM, units other than metres), metres per second.
MOST_DISTANCE, DISTANCE_SHARE, SPEED = 0.5, 0.5, 50.0
_FARTHEST_CENTRE = 1.0  # of the image's side, that a principal point may lie beside the image
_FOCALS = (0.01, 100.0)  # focal length over the image's longer side


def check_lens_fits(scene: Scene) -> None:
    """BadRecord unless every lens is one for images of its camera's size."""
    for camera in scene.cameras:
        (height, width), k = camera.size, np.asarray(camera.lens.intrinsics)
        where = f"scene {scene.name}, camera {camera.name}"
        for axis, centre, side in (("cx", k[0, 2], width), ("cy", k[1, 2], height)):
            if not -_FARTHEST_CENTRE * side <= centre <= (1 + _FARTHEST_CENTRE) * side:
                raise BadRecord(
                    f"{where}: the principal point's {axis} = {centre:g} lies farther from the image, 0 to {side}, "
                    "than its own side; correct the calibration"
                )
        for axis, focal in (("fx", k[0, 0]), ("fy", k[1, 1])):
            if not _FOCALS[0] <= focal / max(height, width) <= _FOCALS[1]:
                raise BadRecord(
                    f"{where}: focal length {axis} = {focal:g} pixels must be {_FOCALS[0]:g} to {_FOCALS[1]:g} times "
                    f"the image's longer side of {max(height, width)}; correct the calibration"
                )


def frames_off_in_time(scene: Scene) -> dict[int, str]:
    """Numbers of the frames whose time is far from their step's, or that a jump in time parts from the longest run of
    steps, each with the reason. Of a scene without order there are none: its times mean nothing.
    """
    finite = [number for number, frame in enumerate(scene.frames) if np.isfinite(frame.time)]
    if not scene.ordered or not finite:
        return {}
    reasons: dict[int, str] = {}
    steps: dict[int, list[int]] = {}
    for number in finite:
        steps.setdefault(scene.frames[number].step, []).append(number)
    middles = {step: float(np.median([scene.frames[n].time for n in numbers])) for step, numbers in steps.items()}
    for step, numbers in steps.items():
        for number in numbers:
            apart = scene.frames[number].time - middles[step]
            if abs(apart) > MOST_SKEW:
                reasons[number] = (
                    f"time {scene.frames[number].time!r} s is {apart:+.6g} s from the median of its step, must be "
                    f"within {MOST_SKEW:g} s; correct the times of its camera, or leave that out (cameras=)"
                )
    for step, reason in _beyond_jumps(middles).items():
        reasons |= {number: reasons.get(number, reason) for number in steps[step]}
    return reasons


def _beyond_jumps(middles: dict[int, float]) -> dict[int, str]:
    """The steps outside of the longest run without a jump, and why."""
    steps, times = list(middles), np.array(list(middles.values()))
    if len(steps) < 2:
        return {}
    gaps = np.diff(times)
    most = max(MOST_GAP, GAP_RATIO * float(np.median(np.abs(gaps))))
    jumps = np.flatnonzero(np.abs(gaps) > most)
    if not len(jumps):
        return {}
    edges = [0, *(jumps + 1).tolist(), len(steps)]
    longest = max(range(len(edges) - 1), key=lambda run: edges[run + 1] - edges[run])
    inside = range(edges[longest], edges[longest + 1])
    jump = int(jumps[0])
    reason = (
        f"times jump by {gaps[jump]:+.6g} s from step {steps[jump]} to step {steps[jump + 1]}, may by {most:.6g} s "
        f"(the larger of {MOST_GAP:g} s and {GAP_RATIO:g} times the median gap); correct the times, or cut the "
        "recording there"
    )
    return {step: reason for place, step in enumerate(steps) if place not in inside}


def check_rig_poses(scene: Scene) -> None:
    """BadRecord where the poses of a camera are not where a rig that a calibration states puts it beside the front one.

    What a vehicle moves between two exposures is allowed for by their times. Judged is the median over the steps.
    """
    if not scene.rig_is_stated:
        return
    apart: dict[int, list[tuple[float, float]]] = {}
    for front, frame in _pairs(scene):
        camera = scene.cameras[frame.camera]
        expected = front.world_from_camera @ camera.rig_from_camera
        error = rigid.invert(expected) @ frame.world_from_camera
        seconds = abs(frame.time - front.time)
        distance = DISTANCE_SHARE * float(np.linalg.norm(camera.rig_from_camera[:3, 3]))
        angle = np.degrees(np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1)))
        beyond = angle - TURN_RATE * seconds, np.linalg.norm(error[:3, 3]) - distance - SPEED * seconds
        apart.setdefault(frame.camera, []).append(beyond)
    for number, errors in apart.items():
        angle, distance = np.median(errors, axis=0)
        if angle > MOST_ANGLE or distance > MOST_DISTANCE:
            where = f"scene {scene.name}, camera {scene.cameras[number].name}"
            raise BadRecord(
                f"{where}: its poses are {max(angle, 0):.3g} degrees and {max(distance, 0):.3g} m from where the rig "
                f"puts it (median of {len(errors)} steps, motion between exposures taken off), may be {MOST_ANGLE:g} "
                f"degrees and {MOST_DISTANCE:g} m; correct the rig or the poses"
            )


def _pairs(scene: Scene) -> Iterator[tuple[Frame, Frame]]:
    """Frames of the front camera with each other frame of their step."""
    fronts = {frame.step: frame for frame in scene.frames if frame.camera == scene.front_camera}
    for frame in scene.frames:
        if frame.camera != scene.front_camera and frame.step in fronts:
            yield fronts[frame.step], frame
