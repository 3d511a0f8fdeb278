"""What is measured and what is known when windows of images are joined into one reconstruction; host float64.

A network sees a window: some of the images. It says where each camera is in a frame and a length unit of the window's
own. Two windows that share images, or time steps of a known rig, can be joined.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_poses import world_from_rigs


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class WindowPoses:
    """The predicted cameras of one window.

    images: their numbers, each once.
    window_from_camera: predicted, in the window's frame and length unit.
    covariance: of the error's tangent (v, w) in window_from_camera exp(v, w), in the window's unit and radians. An
        image with zeros is the frame's origin by definition, such as the first image of models that predict relative to
        it. None: `FuseOptions.sigma_length` and `sigma_deg` say how a unit of length compares with a radian.
    scale: world lengths (metres) per unit of the window where that is known, and held; None: it is found.
    """

    images: Int[np.ndarray, " n"]
    window_from_camera: Float[np.ndarray, "n 4 4"]
    covariance: Float[np.ndarray, "n 6 6"] | None = None
    scale: float | None = None


@dataclasses.dataclass(frozen=True)
class ScaleLink:
    """A measured ratio of two windows' length units, such as of the depths of the same pixels in both.

    log_ratio: log(world lengths per unit of `second` / those per unit of `first`) = log(a length in `first` / the same
        length in `second`).
    first: number of a window; None: the world's own unit.
    """

    first: int | None
    second: int
    log_ratio: float
    sigma: float  # standard deviation of log_ratio


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Constraints:
    """What is known beside the predictions; what is not is None.

    image_count: images are numbered 0..image_count-1.
    step: images of one number >= 0 were taken together by one rig; -1: of no known rig. With several rigs the numbers
        of their steps differ.
    rig_from_camera: metres; counts where step >= 0. It holds exactly, but for images with a held pose.
    world_from_camera: given poses, metres, where `has_pose`.
    held: given poses come out as they went in. False: they are measurements with errors of sigma_m and sigma_deg
        (standard deviations along and about each axis).
    scale_links: measured ratios of length units.
    """

    image_count: int
    step: Int[np.ndarray, " v"] | None = None
    rig_from_camera: Float[np.ndarray, "v 4 4"] | None = None
    world_from_camera: Float[np.ndarray, "v 4 4"] | None = None
    has_pose: Bool[np.ndarray, " v"] | None = None
    held: bool = True
    sigma_m: float = 0.05
    sigma_deg: float = 0.5
    scale_links: Sequence[ScaleLink] = ()


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Problem:
    """Windows and constraints as arrays. A body is what has one unknown pose: a rig at a step, or a single image.

    Observations: one per image of each window. The window behind the last is the world itself, in which given poses
    that are not held are observed. Bodies that hold a given pose are fixed.
    """

    window_count: int
    window: Int[np.ndarray, " o"]
    image: Int[np.ndarray, " o"]
    window_from_camera: Float[np.ndarray, "o 4 4"]
    covariance: Float[np.ndarray, "o 6 6"]  # the defaults where none is stated
    stated: Bool[np.ndarray, " o"]
    exact: Bool[np.ndarray, " o"]  # stated as zeros
    body: Int[np.ndarray, " v"]
    body_from_camera: Float[np.ndarray, "v 4 4"]
    fixed: Bool[np.ndarray, " b"]
    world_from_body: Float[np.ndarray, "b 4 4"]  # counts where fixed
    posed: Int[np.ndarray, " g"]  # images with a given pose
    world_from_posed: Float[np.ndarray, "g 4 4"]
    log_scale: Float[np.ndarray, " w1"]  # held ones; NaN where free; 0 of the world
    links: Sequence[ScaleLink]

    @property
    def world(self) -> int:
        """The number of the world among the windows."""
        return self.window_count

    def of_window(self, window: int) -> Int[np.ndarray, " n"]:
        """Its observations."""
        return np.flatnonzero(self.window == window)


def problem_of(
    windows: Sequence[WindowPoses], constraints: Constraints, sigma_length: float, sigma_deg: float
) -> Problem:
    """ValueError, naming window and image, for input that cannot be used and for parts that nothing joins."""
    if not windows:
        raise ValueError("there is no window to join; give at least one")
    for number, window in enumerate(windows):
        _check_window(number, window, constraints.image_count)
    _check_links(constraints.scale_links, len(windows))
    posed, world_from_posed = _given(constraints)
    body, body_from_camera = _bodies(constraints, posed)
    default = np.diag([sigma_length**2] * 3 + [np.radians(sigma_deg) ** 2] * 3)
    covariances = [
        np.tile(default, (len(w.images), 1, 1)) if w.covariance is None else np.asarray(w.covariance, np.float64)
        for w in windows
    ]
    numbers, images = [np.full(len(w.images), n) for n, w in enumerate(windows)], [w.images for w in windows]
    predicted, stated = [w.window_from_camera for w in windows], [np.full(len(w.images), w.covariance is not None)
                                                                 for w in windows]  # fmt: skip
    fixed, world_from_body = np.zeros(body.max() + 1, bool), np.tile(np.eye(4), (body.max() + 1, 1, 1))
    if constraints.held:
        fixed, world_from_body = _fixed(body, body_from_camera, posed, world_from_posed, constraints)
    elif len(posed):
        sigmas = np.repeat([constraints.sigma_m, np.radians(constraints.sigma_deg)], 3)
        numbers.append(np.full(len(posed), len(windows)))
        images.append(posed)
        predicted.append(world_from_posed)
        covariances.append(np.tile(np.diag(sigmas**2), (len(posed), 1, 1)))
        stated.append(np.ones(len(posed), bool))
    covariance = np.concatenate(covariances)
    problem = Problem(
        window_count=len(windows),
        window=np.concatenate(numbers),
        image=np.concatenate(images).astype(np.int64),
        window_from_camera=rigid.nearest_rigid(np.concatenate(predicted)),
        covariance=covariance,
        stated=np.concatenate(stated),
        exact=~covariance.any(axis=(-2, -1)),
        body=body,
        body_from_camera=body_from_camera,
        fixed=fixed,
        world_from_body=world_from_body,
        posed=posed,
        world_from_posed=world_from_posed,
        log_scale=np.array([np.nan if w.scale is None else np.log(w.scale) for w in windows] + [0.0]),
        links=tuple(constraints.scale_links),
    )
    _check_covered(problem)
    return problem


def _check_window(number: int, window: WindowPoses, image_count: int) -> None:
    images, count = np.asarray(window.images), len(window.images)
    where = f"window {number}"
    if not count or len(np.unique(images)) != count or images.min() < 0 or images.max() >= image_count:
        raise ValueError(f"{where}: its images are {images.tolist()}; give each once, of 0..{image_count - 1}")
    shapes = (window.window_from_camera.shape, None if window.covariance is None else window.covariance.shape)
    if shapes[0] != (count, 4, 4) or shapes[1] not in (None, (count, 6, 6)):
        raise ValueError(f"{where}: {count} images with poses and covariances of shapes {shapes}; give one to each")
    if window.scale is not None and not 0 < window.scale < np.inf:
        raise ValueError(f"{where}: its scale is {window.scale}; it must be positive, world lengths per unit, or None")
    for image, matrix in zip(images.tolist(), window.window_from_camera, strict=True):
        rigid.check(matrix, f"{where}, image {image}: the predicted camera")
    if window.covariance is None:
        return
    for image, covariance in zip(images.tolist(), window.covariance, strict=True):
        if covariance.any() and not _is_covariance(covariance.astype(np.float64)):
            raise ValueError(
                f"{where}, image {image}: its covariance {covariance.tolist()} must be finite, symmetric and positive "
                "definite, or all zeros for the frame's origin; bound its variances from below"
            )


def _is_covariance(covariance: Float[np.ndarray, "6 6"]) -> bool:
    diagonal = np.diagonal(covariance)
    if not np.isfinite(covariance).all() or diagonal.min() <= 0:
        return False
    scaled = covariance / np.sqrt(np.outer(diagonal, diagonal))
    return bool(np.abs(scaled - scaled.T).max() < 1e-6 and np.linalg.eigvalsh(scaled)[0] > 1e-12)


def _check_links(links: Sequence[ScaleLink], window_count: int) -> None:
    for link in links:
        ends = {0 if link.first is None else link.first, link.second}
        usable = ends <= set(range(window_count)) and link.first != link.second
        if not (usable and np.isfinite(link.log_ratio) and 0 < link.sigma < np.inf):
            raise ValueError(
                f"{link} must join two of {window_count} windows (or None, the world, and one) by a finite log_ratio "
                "with a positive sigma"
            )


def _given(constraints: Constraints) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of images with a given pose, and these."""
    if (constraints.world_from_camera is None) != (constraints.has_pose is None):
        raise ValueError("world_from_camera and has_pose go together; give both or neither")
    if constraints.has_pose is None:
        return np.zeros(0, np.int64), np.zeros((0, 4, 4))
    if not constraints.held and not (constraints.sigma_m > 0 and constraints.sigma_deg > 0):
        raise ValueError(
            f"sigma_m={constraints.sigma_m} and sigma_deg={constraints.sigma_deg} must be positive where given poses "
            "may move; hold them if they are exact"
        )
    posed = np.flatnonzero(constraints.has_pose)
    for image in posed.tolist():
        rigid.check(constraints.world_from_camera[image], f"image {image}: the given world_from_camera")
    return posed, constraints.world_from_camera[posed].astype(np.float64)


def _bodies(constraints: Constraints, posed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The body of every image, 0.. in order of appearance, and body_from_camera."""
    count = constraints.image_count
    step = np.full(count, -1) if constraints.step is None else np.asarray(constraints.step, np.int64).copy()
    if (constraints.step is None) != (constraints.rig_from_camera is None):
        raise ValueError("step and rig_from_camera go together; give both or neither")
    if constraints.held:
        step[posed] = -1  # a held pose is held though it may be a little off its rig
    body_from_camera = np.tile(np.eye(4), (count, 1, 1))
    for image in np.flatnonzero(step >= 0).tolist():
        body_from_camera[image] = rigid.check(constraints.rig_from_camera[image], f"image {image}: rig_from_camera")
    lone = step.max(initial=-1) + 1 + np.arange(count)
    _, first, body = np.unique(np.where(step >= 0, step, lone), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[body], rigid.nearest_rigid(body_from_camera)


def _fixed(
    body: np.ndarray,
    body_from_camera: np.ndarray,
    posed: np.ndarray,
    world_from_posed: np.ndarray,
    constraints: Constraints,
) -> tuple[np.ndarray, np.ndarray]:
    """Which bodies held poses fix, and where: images by their own, a rig by those of its images at a step."""
    fixed, world_from_body = np.zeros(body.max() + 1, bool), np.tile(np.eye(4), (body.max() + 1, 1, 1))
    fixed[body[posed]], world_from_body[body[posed]] = True, rigid.nearest_rigid(world_from_posed)
    if constraints.step is None or not len(posed):
        return fixed, world_from_body
    step = np.asarray(constraints.step)
    on_rig = step[posed] >= 0
    rigs = world_from_rigs(
        world_from_posed[on_rig], constraints.rig_from_camera[posed[on_rig]].astype(np.float64), step[posed[on_rig]]
    )
    has_pose = np.zeros(len(step), bool)
    has_pose[posed] = True
    for number, world_from_rig in rigs.items():
        others = np.flatnonzero((step == number) & ~has_pose)
        fixed[body[others]], world_from_body[body[others]] = True, world_from_rig
    return fixed, world_from_body


def _check_covered(problem: Problem) -> None:
    """Every image must follow from some window or given pose."""
    seen = problem.fixed.copy()
    seen[problem.body[problem.image]] = True
    if not seen.all():
        images = np.flatnonzero(~seen[problem.body])
        raise ValueError(
            f"{len(images)} images are in no window and have no given pose, image {images[0]} first; give windows that "
            "cover all images, or leave these out"
        )
