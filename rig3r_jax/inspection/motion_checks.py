"""What poses say without images: how fast the rig goes, and whether its cameras keep their places in it."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from rig3r_jax.geometry import rigid
from rig3r_jax.inspection.claims import Placed
from rig3r_jax.inspection.findings import Finding

_FASTEST = 70.0  # metres a second: 250 km/h
_TURN = 45.0  # degrees a second that a vehicle turns at most, in a town's corners
# That cameras of one step may be apart from the calibration, beyond driving: poses of their own, as COLMAP's, are a few
# centimetres and tenths of a degree off; an inverted place is off by the size of the rig.
_RIGID_METRES, _RIGID_DEGREES = 0.15, 1.0


def judge_motion(scene: str, places: Sequence[Placed]) -> list[Finding]:
    """Speeds and rigidity of the images of a scene, which are ordered by (step, camera)."""
    return [*_speed(scene, places), *_rigidity(scene, places)]


def _speed(scene: str, places: Sequence[Placed]) -> list[Finding]:
    speeds = []
    for camera in {place.camera for place in places}:
        of_camera = [place for place in places if place.camera == camera]
        for a, b in itertools.pairwise(of_camera):
            way = np.linalg.norm(b.source_from_camera[:3, 3] - a.source_from_camera[:3, 3])
            speeds.append(way / max(b.time - a.time, 1e-12))
    if not speeds:
        return []
    fastest = float(np.quantile(speeds, 0.95))
    fault = fastest > _FASTEST
    words = "faster than anything drives: times, or the unit of the poses" if fault else ""
    return [Finding(scene, "speed, 95th percentile", fastest, "m/s", f"under {_FASTEST:g}", fault, words)]


def _rigidity(scene: str, places: Sequence[Placed]) -> list[Finding]:
    """How far the cameras of a step are from where the calibration has them, less what the vehicle drove and turned
    meanwhile: of the worst camera, in the median over the steps."""
    metres, degrees = collections.defaultdict(list), collections.defaultdict(list)  # by the cameras compared
    for _, of_step in itertools.groupby(places, key=lambda place: place.step):
        first, *others = of_step
        for other in others:
            claimed = rigid.invert(first.source_from_camera) @ other.source_from_camera
            off = rigid.invert(rigid.invert(first.body_from_camera) @ other.body_from_camera) @ claimed
            cameras, apart = (first.camera, other.camera), abs(other.time - first.time)
            angle = float(np.degrees(np.arccos(np.clip((np.trace(off[:3, :3]) - 1) / 2, -1, 1))))
            metres[cameras].append(max(0.0, float(np.linalg.norm(off[:3, 3])) - _FASTEST / 2 * apart))
            degrees[cameras].append(max(0.0, angle - _TURN * apart))
    if not metres:
        return []
    findings = []
    for what, values, unit, band in (
        ("rig, positions off its calibration", metres, "m", _RIGID_METRES),
        ("rig, directions off its calibration", degrees, "degrees", _RIGID_DEGREES),
    ):
        value = max(float(np.median(of_cameras)) for of_cameras in values.values())
        words = "poses of one step contradict the rig's calibration: is one of them inverted?" if value > band else ""
        findings.append(Finding(scene, what, value, unit, f"under {band:g}", value > band, words))
    return findings
