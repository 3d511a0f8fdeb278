"""A rig found out from predicted cameras: how many cameras, which image is of which, where they sit, when images were
taken together, and how sure all of this is; host float64.

Images of one camera repeat one place in the rig, but for the predictor's error; so the places are clustered by
`pose_clusters`, whose spread is estimated from the same images. Images of one time step are of different cameras. Where
times are not known but a world_from_camera of every image is, each image says where the rig was, world_from_camera
camera_from_rig, and images of one time step say the same: the steps are found likewise, of images of different cameras.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_certainty import FREE, GROUPED, certainty
from rig3r_jax.geometry.place_em import PlaceFit
from rig3r_jax.geometry.pose_clusters import fit_places
from rig3r_jax.geometry.rig_anchor import anchored
from rig3r_jax.geometry.rig_words import verdict

MOST_CAMERAS = 16
_HUBER = 1.5  # standard deviations along an axis, beyond which a prediction's pull on a mean grows no further
_ALTERNATIONS = 3  # of steps and cameras
_ROUNDS = 20  # of reweighting


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class DiscoveredRig:
    """A rig of k cameras and what v images have to do with it. Lengths are in the unit of the predictions.

    camera: number of each image's camera, in order of first appearance; -1: its prediction is not finite.
    step: number of each image's time step, likewise, or as given; None: neither given nor to be found.
    rig_from_camera: robust means, in the frame of the predictions; where cameras are calibrated, in their frame, and
        in their unit where it can be told, and theirs as they were given.
    covariance: of the error's tangent (v, w) in rig_from_camera exp(v, w) of each mean; zeros where it was given, NaN
        where the spread is not known.
    image_certainty: probability that the image is of its camera.
    camera_certainty: probability that a camera's images, and no others, are of one camera.
    step_certainty: probability that the image is of its step; 1 where steps are given, 0 of an image without one.
    count_probability: of each number of cameras that was tried.
    sigma_length, sigma_deg: spread of the predictions along and about each axis; NaN where no camera took two images.
    rig_from_predicted: the similarity that brings predictions into the rig's frame and unit; the identity where no
        camera is calibrated.
    calibrated: which places were given.
    verdict: sentences for people, what the images do not say among them.
    """

    camera: Int[np.ndarray, " v"]
    step: Int[np.ndarray, " v"] | None
    rig_from_camera: Float[np.ndarray, "k 4 4"]
    covariance: Float[np.ndarray, "k 6 6"]
    image_certainty: Float[np.ndarray, " v"]
    camera_certainty: Float[np.ndarray, " k"]
    step_certainty: Float[np.ndarray, " v"] | None
    count_probability: dict[int, float]
    sigma_length: float
    sigma_deg: float
    rig_from_predicted: Float[np.ndarray, "4 4"]
    calibrated: Bool[np.ndarray, " k"]
    verdict: tuple[str, ...] = ()

    @property
    def count_certainty(self) -> float:
        """Of the number of cameras."""
        return self.count_probability[len(self.rig_from_camera)]

    @property
    def frame_from_rig(self) -> Float[np.ndarray, "4 4"]:
        """The frame that results are told in: that of calibrated cameras, else the first camera's."""
        return np.eye(4) if self.calibrated.any() else rigid.invert(self.rig_from_camera[0])

    @property
    def covariance_in_frame(self) -> Float[np.ndarray, "k 6 6"]:
        """`covariance` of frame_from_rig rig_from_camera: the first camera, where it is that frame, has no error of its
        own, and the others have its share."""
        if self.calibrated.any():
            return self.covariance
        carried = rigid.adjoint(rigid.invert(self.frame_from_rig @ self.rig_from_camera))
        covariance = self.covariance + carried @ self.covariance[0] @ np.swapaxes(carried, -1, -2)
        covariance[0] = 0.0
        return covariance


def discover_rig(
    rig_from_camera: Float[np.ndarray, "v 4 4"],
    *,
    world_from_camera: Float[np.ndarray, "v 4 4"] | None = None,
    step: Int[np.ndarray, " v"] | None = None,
    camera: Int[np.ndarray, " v"] | None = None,
    camera_count: int | None = None,
    most_cameras: int = MOST_CAMERAS,
    calibrated: Mapping[int, Float[np.ndarray, "4 4"]] | None = None,
    metric: bool = False,
    unit: str = "",
) -> DiscoveredRig:
    """The rig that the predictions are of.

    Args:
        rig_from_camera: predicted, all in one frame and length unit. What is not finite is left out and counted.
        world_from_camera: predicted in the same unit; time steps are found where `step` is not given.
        step: images of one number >= 0 were taken together, by different cameras; -1: not known when.
        camera: number >= 0 of the physical camera where it is known, whose images are kept together and from others of
            another number; -1: not known.
        camera_count: where it is known.
        most_cameras: beyond which no number is tried.
        calibrated: rig_from_camera where it is known, by number in `camera`. These places are held, and all others come
            out in their frame and unit.
        metric: predictions have the unit of `calibrated`; else their ratio is fitted, to two calibrated places or more;
            of places in the frame's origin alone lengths stay in the predictions' unit.
        unit: of lengths, behind numbers in the verdict.

    Raises ValueError for arrays that do not fit one another, no finite image, a prediction or calibration that is no
    rigid transform, a count that the images cannot have, and calibrated places that do not tell frame and unit.
    """
    images = len(rig_from_camera)
    for name, values in {"world_from_camera": world_from_camera, "step": step, "camera": camera}.items():
        if values is not None and len(values) != images:
            raise ValueError(f"{name} of {len(values)} images for {images} predictions; give one to each")
    finite = np.isfinite(rig_from_camera).all(axis=(1, 2))
    if world_from_camera is not None:
        finite &= np.isfinite(world_from_camera).all(axis=(1, 2))
    if not finite.any():
        raise ValueError(f"none of {images} predicted cameras is finite; a rig wants one at least")
    for row in np.flatnonzero(finite).tolist():
        rigid.check(rig_from_camera[row], f"image {row}: the predicted rig_from_camera")
        if world_from_camera is not None:
            rigid.check(world_from_camera[row], f"image {row}: the predicted world_from_camera")
    poses = rigid.nearest_rigid(rig_from_camera[finite])
    labels, numbers = _labels(camera, finite)
    steps = None if step is None else np.asarray(step, np.int64)[finite]
    counts = _counts(len(poses), camera_count, most_cameras)
    fits = fit_places(poses, counts, steps, labels)
    chosen, step_fits = _best(fits), None
    if steps is None and world_from_camera is not None and len(poses) > 1:
        world_from_rig = rigid.nearest_rigid(world_from_camera[finite]) @ rigid.invert(poses)
        for _ in range(_ALTERNATIONS):  # steps by cameras, cameras by steps
            camera_before = chosen.label
            step_fits = _step_fits(world_from_rig, camera_before)
            chosen = _best(fit_places(poses, counts, _best(step_fits).label, labels))
            if np.array_equal(chosen.label, camera_before):
                break
    # Steps that follow from the cameras say nothing new of these: certainties are those of the fits without steps.
    rig = _described(poses, fits, chosen, step_fits, steps, finite, not len(numbers))
    if calibrated:
        rig = anchored(rig, _places(calibrated, numbers), metric)
    return dataclasses.replace(rig, verdict=verdict(rig, confusion(rig), unit))


def _labels(camera: np.ndarray | None, finite: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Of the finite images: cameras that are known, numbered without gaps, and the numbers of these in `camera`."""
    if camera is None:
        return None, np.zeros(0, np.int64)
    stated = np.asarray(camera, np.int64)[finite]
    numbers = np.unique(stated[stated >= 0])
    return np.where(stated >= 0, np.searchsorted(numbers, stated), -1), numbers


def _places(calibrated: Mapping[int, np.ndarray], numbers: np.ndarray) -> dict[int, np.ndarray]:
    """By label, of the cameras with images."""
    if absent := [number for number in calibrated if number not in numbers]:
        raise ValueError(
            f"camera {absent[0]} is calibrated, but no image with a finite prediction is said to be of it; known "
            f"cameras: {', '.join(map(str, numbers)) or 'none'}; say which images it took, or leave it out"
        )
    return {
        int(np.searchsorted(numbers, number)): rigid.check(place, f"camera {number}: its calibrated rig_from_camera")
        for number, place in calibrated.items()
    }


def _counts(images: int, camera_count: int | None, most: int) -> Sequence[int]:
    if camera_count is None:
        return range(1, max(min(images, most), 1) + 1)
    if not 1 <= camera_count <= images:
        raise ValueError(f"camera_count is {camera_count}; {images} images are of 1 to {images} cameras")
    return [camera_count]


def _best(fits: Sequence[PlaceFit]) -> PlaceFit:
    return max(fits, key=lambda fit: fit.log_evidence)


def _step_fits(world_from_rig: np.ndarray, camera: np.ndarray) -> list[PlaceFit]:
    """Of numbers of steps from the fewest that the cameras can have taken to twice as many."""
    fewest = int(np.bincount(camera).max())
    return fit_places(world_from_rig, range(fewest, min(2 * fewest + 2, len(camera)) + 1), camera)


def _described(
    poses: np.ndarray,
    fits: Sequence[PlaceFit],
    chosen: PlaceFit,
    step_fits: Sequence[PlaceFit] | None,
    steps: np.ndarray | None,
    finite: np.ndarray,
    by_appearance: bool,
) -> DiscoveredRig:
    sure = certainty(fits, chosen, FREE if steps is None else GROUPED)
    order = _order(chosen.label, chosen.count) if by_appearance else np.arange(chosen.count)
    camera, certain = np.full(len(finite), -1), np.zeros(len(finite))
    camera[finite], certain[finite] = np.argsort(order)[chosen.label], sure.pose
    step, step_certain = None, None
    if step_fits is not None:
        best_step = _best(step_fits)
        step, step_certain = np.full(len(finite), -1), np.zeros(len(finite))
        step[finite] = np.argsort(_order(best_step.label, best_step.count))[best_step.label]
        step_certain[finite] = certainty(step_fits, best_step, GROUPED).pose
    elif steps is not None:
        step, step_certain = np.full(len(finite), -1), np.zeros(len(finite))
        step[finite], step_certain[finite] = steps, steps >= 0
    means, covariances = zip(*(robust_mean(poses[chosen.label == k], chosen) for k in order), strict=True)
    return DiscoveredRig(
        camera=camera,
        step=step,
        rig_from_camera=np.stack(means),
        covariance=np.stack(covariances),
        image_certainty=certain,
        camera_certainty=sure.place[order],
        step_certainty=step_certain,
        count_probability={fit.count: float(p) for fit, p in zip(fits, sure.count, strict=True)},
        sigma_length=chosen.sigma_length,
        sigma_deg=float(np.degrees(chosen.sigma_rad)),
        rig_from_predicted=np.eye(4),
        calibrated=np.zeros(chosen.count, bool),
    )


def _order(label: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " k"]:
    """All of 0..count-1 in order of first appearance; those that do not appear at the end."""
    first = np.full(count, len(label))
    np.minimum.at(first, label, np.arange(len(label)))
    return np.argsort(first, kind="stable")


def robust_mean(
    poses: Float[np.ndarray, "n 4 4"], fit: PlaceFit
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "6 6"]]:
    """Mean on SE(3) by Huber's weights on deviations in units of the fit's spread, and its covariance."""
    weights = np.ones(len(poses))
    sigmas = np.array([fit.sigma_length, fit.sigma_rad])
    for _ in range(_ROUNDS if np.isfinite(sigmas).all() else 1):
        rotation = rigid.nearest_rotation(np.einsum("n,nij->ij", weights, poses[:, :3, :3]))
        mean = rigid.from_rotation_translation(rotation, weights @ poses[:, :3, 3] / weights.sum())
        tangents = rigid.invert(mean) @ poses
        deviation = np.sqrt(np.maximum(_half_squared(tangents, sigmas), 1e-300) / 3)
        weights = np.minimum(1.0, _HUBER / deviation) if np.isfinite(sigmas).all() else weights
    effective = weights.sum() ** 2 / np.sum(weights**2)
    return mean, np.diag(np.repeat(sigmas, 3) ** 2) / effective


def _half_squared(mean_from_pose: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Half the squared deviations in 6 dimensions: 3 on average of normal errors."""
    chord = np.sum((mean_from_pose[:, :3, :3] - np.eye(3)) ** 2, axis=(1, 2)) / 2
    return (np.sum(mean_from_pose[:, :3, 3] ** 2, axis=1) / sigmas[0] ** 2 + chord / sigmas[1] ** 2) / 2


def confusion(rig: DiscoveredRig) -> Float[np.ndarray, "k k"]:
    """Probability that one image of camera i looks nearer to j, by the distance of both and the spread; 0 for i = j.

    NaN where the spread is not known.
    """
    apart = rig.rig_from_camera[:, None, :3, 3] - rig.rig_from_camera[None, :, :3, 3]
    chord = np.sum((rig.rig_from_camera[:, None, :3, :3] - rig.rig_from_camera[None, :, :3, :3]) ** 2, axis=(2, 3)) / 2
    squared = np.sum(apart**2, axis=-1) / rig.sigma_length**2 + chord / np.radians(rig.sigma_deg) ** 2
    return np.where(np.eye(len(squared), dtype=bool), 0.0, ndtr(-np.sqrt(squared) / 2))
