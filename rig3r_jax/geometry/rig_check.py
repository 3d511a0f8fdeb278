"""A calibration held against predictions: which cameras moved, by how much, how surely; host float64.

Predictions are of the calibrated places up to one rigid motion, one scale, and errors whose covariance is that within
the cameras: x = motion calibrated_c exp(d_c) exp(e). A camera stays, d_c = 0, unless Hotelling's test of its turn or of
its shift (3 numbers each) refuses that at the stated rate of false alarms, which is of the whole rig: it is divided by
the number of tests (Bonferroni). Cameras are taken off the list of those that stay one at a time, the worst first, as a
moved one spoils the common motion.
"""

import dataclasses
import typing

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_evidence import RESOLUTION
from rig3r_jax.geometry.rig_motion import (
    median_similarity,
    motion_derivatives,
    moved_cameras,
    scale_of,
    small_tangents,
)

FALSE_ALARM = 0.02  # of a rig that nobody touched
_PARTS = {"shift": slice(0, 3), "turn": slice(3, 6)}  # of tangents (v, w)
_LOOSE = 100.0  # prior sigma of the common motion: rig sizes, radians, log(scale)


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class CameraCheck:
    """What became of one camera.

    moved: beyond what the false alarm rate allows for.
    tangent: (v, w) of calibrated_from_now = exp(v, w), in the calibration's unit and radians, in the camera's frame.
    covariance: of it.
    p_value: of the calibration being right for this camera, the others that stay being right, times the number of
        tests; the smaller of shift and turn.
    images: that it is judged by.
    """

    camera: int
    moved: bool
    tangent: Float[np.ndarray, "6"]
    covariance: Float[np.ndarray, "6 6"]
    p_value: float
    images: int

    @property
    def shift(self) -> float:
        """In the calibration's unit."""
        return float(np.linalg.norm(self.tangent[:3]))

    @property
    def turn_deg(self) -> float:
        """Degrees."""
        return float(np.degrees(np.linalg.norm(self.tangent[3:])))

    @property
    def sigma(self) -> float:
        """Standard deviation of the shift along an axis, on average."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3]) / 3))

    @property
    def sigma_deg(self) -> float:
        """Standard deviation of the turn about an axis, on average."""
        return float(np.degrees(np.sqrt(np.trace(self.covariance[3:, 3:]) / 3)))


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class RigCheck:
    """Of every camera with images, by number; `verdict` in words, names for numbers where they are given."""

    cameras: tuple[CameraCheck, ...]
    scale: float  # calibration's lengths over those of the predictions
    false_alarm: float
    undecided: bool  # two cameras are off from one another: which of them moved, images do not say

    @property
    def moved(self) -> tuple[int, ...]:
        """Numbers of the cameras that moved."""
        return tuple(check.camera for check in self.cameras if check.moved)

    def verdict(self, names: dict[int, str] | None = None, unit: str = "m") -> tuple[str, ...]:
        """A sentence per camera that moved, or one that none did."""

        def name_of(number: int) -> str:
            return (names or {}).get(number, f"camera {number}")

        rate = f"false alarms: {100 * self.false_alarm:.2g}% of rigs"
        moved = [check for check in self.cameras if check.moved]
        if not moved:
            return (f"no camera moved as far as {sum(c.images for c in self.cameras)} images tell ({rate})",)
        words = [
            f"{name_of(c.camera)} moved: turned by {c.turn_deg:.2g} +- {c.sigma_deg:.1g} degrees, shifted by "
            f"{c.shift:.2g} +- {c.sigma:.1g} {unit} (p = {c.p_value:.1g}; {rate})"
            for c in moved
        ]
        if self.undecided:
            two = " and ".join(name_of(check.camera) for check in self.cameras)
            words.append(f"{two} moved against one another: with two cameras images do not say which of them did")
        return tuple(words)


def check_rig(
    calibrated: Float[np.ndarray, "k 4 4"],
    rig_from_camera: Float[np.ndarray, "v 4 4"],
    camera: Int[np.ndarray, " v"],
    *,
    false_alarm: float = FALSE_ALARM,
    metric: bool = False,
) -> RigCheck:
    """Which cameras no longer sit where the calibration has them.

    Args:
        calibrated: rig_from_camera of the calibration.
        rig_from_camera: predicted, in any one frame and unit.
        camera: number of each image's row in `calibrated`; -1, or a prediction that is not finite: it does not count.
        false_alarm: probability that anything is said to have moved where nothing has.
        metric: the predictions are in the calibration's unit; False: one scale is fitted. Then a rig that shrank as a
            whole is not noticed.

    Raises ValueError for fewer than two cameras, or too few images to know how far predictions scatter.
    """
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm={false_alarm} must lie between 0 and 1: the share of untouched rigs")
    camera = np.asarray(camera, np.int64)
    if len(camera) != len(rig_from_camera) or camera.max(initial=-1) >= len(calibrated):
        raise ValueError(
            f"{len(camera)} camera numbers up to {camera.max(initial=-1)} for {len(rig_from_camera)} predictions and "
            f"{len(calibrated)} calibrated cameras; give one below {len(calibrated)} to each"
        )
    usable = (camera >= 0) & np.isfinite(rig_from_camera).all(axis=(1, 2))
    numbers, index = np.unique(camera[usable], return_inverse=True)
    count, images = len(numbers), int(usable.sum())
    free = images - count
    if count < 2 or free < 5:
        raise ValueError(
            f"{images} predictions of {count} cameras: a check wants two cameras, and five images more than cameras; "
            "add time steps"
        )
    places = rigid.nearest_rigid(np.asarray(calibrated, np.float64)[numbers])
    poses = rigid.nearest_rigid(np.asarray(rig_from_camera, np.float64)[usable])
    similarity = median_similarity(poses, places, index, metric)
    poses = moved_cameras(similarity, poses)
    tangents = small_tangents(rigid.invert(places[index]) @ poses)
    each = np.bincount(index)
    means = np.stack([tangents[index == c].mean(axis=0) for c in range(count)])
    centred = tangents - means[index]
    within = centred.T @ centred / free + RESOLUTION**2 * np.eye(6)
    motion = motion_derivatives(places, metric)
    return _tested(numbers, means, within, each, motion, free, false_alarm, scale_of(similarity))


def _tested(
    numbers: np.ndarray,
    means: np.ndarray,
    within: np.ndarray,
    each: np.ndarray,
    motion: np.ndarray,
    free: int,
    false_alarm: float,
    scale: float,
) -> RigCheck:
    count, moved, checks = len(numbers), [], {}
    while True:
        stay = [c for c in range(count) if c not in moved]
        for c in range(count):
            others = [other for other in stay if other != c]
            checks[c] = _against(c, others, means, within, each, motion, free, 2 * count)
        worst = min(stay, key=lambda c: checks[c][2])
        if checks[worst][2] >= false_alarm or (moved and len(stay) == 2):
            break
        moved.append(worst)
        if len(stay) == 2:
            break
    off = [checks[c][2] < false_alarm for c in range(count)]
    cameras = tuple(CameraCheck(int(numbers[c]), c in moved, *checks[c], int(each[c])) for c in range(count))
    return RigCheck(cameras, scale, false_alarm, count == 2 and any(off))


def _against(
    c: int, others: list[int], means: np.ndarray, within: np.ndarray, each: np.ndarray, motion: np.ndarray,
    free: int, tests: int,
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """Tangent of a camera against the motion that the others have in common, its covariance and p-value."""
    weight = np.linalg.inv(within)
    loose = np.repeat([_LOOSE * np.abs(motion).max(), _LOOSE, _LOOSE], [3, 3, 1])  # what others leave open stays open
    normal = sum(each[o] * motion[o].T @ weight @ motion[o] for o in others)
    right = sum(each[o] * motion[o].T @ weight @ means[o] for o in others)
    covariance_motion = np.linalg.inv(normal + np.diag(loose[: len(normal)] ** -2.0))
    tangent = means[c] - motion[c] @ (covariance_motion @ right)
    covariance = within / each[c] + motion[c] @ covariance_motion @ motion[c].T
    p_values = []
    for part in _PARTS.values():
        square = tangent[part] @ np.linalg.solve(covariance[part, part], tangent[part])
        p_values.append(stats.f.sf(square / 3 * (free - 2) / free, 3, free - 2))  # Hotelling's T squared
    return tangent, covariance, float(min(1.0, tests * min(p_values)))
