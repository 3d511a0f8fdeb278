"""`rig3r bench fusion`: what a known rig is worth when windows of predicted cameras are joined.

The cameras are the true ones of held-out procedural drives. A model without a rig, such as VGGT, is played by drawing
its predictions: every window in a frame and length unit of its own, errors of a known covariance (correlated, along the
axes unlike, of a size that differs from image to image), some views grossly wrong. With --workdir a trained Rig3R
predicts the windows of the same drives, from their images; units of its windows are measured as `rig3r reconstruct`
measures them, too (`inference.scale_links`).
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from rig3r_jax.benchmarks.result import Record, Row, result_name
from rig3r_jax.data.sources.procedural.scenes import Drive, make_drive
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.evaluation.points import fit_similarity
from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.geometry import rigid, se3
from rig3r_jax.geometry.fusion.fuse import Fused, FuseOptions, fuse
from rig3r_jax.geometry.fusion.problem import Constraints, ScaleLink, WindowPoses

SPLIT = "unseen_rigs"
UNIT_M = (8.0, 25.0)  # of a window's unit, which is near the scene's mean depth
HOW = (
    "noise: of translations in mean depths and of rotations in radians, along and about an axis, the typical view's; "
    "rotation, translation: mean over drives of the mean angle after the best rotation and of the RMS distance after "
    "the best similarity; scale: RMS over drives of its error, with nothing aligned, and as predicted; wild: share of "
    "grossly wrong views; d2: mean of errors^T inverse "
    "covariance errors, 6 where covariances are true"
)
_AXES = np.array([1.0, 0.7, 1.6, 0.8, 1.2, 1.0])  # sigma of v (most along the view) and w, over the level
_WILD = (0.5, 0.5)  # mean depths and radians, of grossly wrong views


@dataclasses.dataclass(frozen=True)
class Case:
    """A drive and what was predicted of its windows."""

    world_from_camera: Float[np.ndarray, "v 4 4"]  # true, metres
    step: Int[np.ndarray, " v"]
    rig_from_camera: Float[np.ndarray, "v 4 4"]
    windows: Sequence[WindowPoses]
    depth_links: Sequence[ScaleLink] = ()  # measured ratios of the windows' units
    rig_links: Sequence[ScaleLink] = ()  # measured units, metres, that want the rig


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to join the windows of a case."""

    name: str
    rig: bool
    covariances: bool
    options: FuseOptions = dataclasses.field(default_factory=FuseOptions)


CLOSED = FuseOptions(max_iterations=0)
METHODS = (
    Method("no rig, closed form", False, True, CLOSED),
    Method("no rig, pose graph", False, False),
    Method("no rig, pose graph, covariances", False, True),
    Method("rig, closed form", True, True, CLOSED),
    Method("rig, pose graph", True, False),
    Method("rig, pose graph, covariances", True, True),
)


def command(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Prints one row per noise and method, and writes the JSON."""
    source = Procedural(
        seed=options.seed,
        test_worlds=options.drives,
        min_cameras=3,
        max_cameras=6,
        steps=options.steps,
        layouts=("surround",),
    )
    settings = {"drives": options.drives, "steps": options.steps, "window_steps": options.window_steps,
                "overlap_steps": options.overlap_steps, "seed": options.seed,
                "notes": [HOW]}  # fmt: skip
    record = Record(options, result_name("fusion", options, "procedural"), settings)
    print(HOW, flush=True)
    places = steps_of_windows(options.steps, options.window_steps, options.overlap_steps)
    drives = [make_drive(source, SPLIT, index) for index in range(options.drives)]
    for wild, level in itertools.product(options.wild, options.noise):
        rng = np.random.default_rng([options.seed, round(1e6 * level), round(1e6 * wild)])
        cases = [drawn_case(rng, drive, places, level, wild) for drive in drives]
        for row in rows(cases, METHODS, {"predictions": "drawn", "wild": wild, "noise": level}):
            record.add(row)
    if options.workdir:
        from rig3r_jax.benchmarks.fusion_model import predicted_cases

        for metadata, cases in predicted_cases(Path(options.workdir), options.drives, options.steps, places):
            methods = [method for method in METHODS if not method.covariances or method.options is CLOSED]
            for row in rows(cases, methods, {"predictions": f"Rig3R, {metadata}", "wild": None, "noise": None}):
                record.add(row)
    record.end()
    return 0


def steps_of_windows(steps: int, window: int, overlap: int) -> list[list[int]]:
    """Steps of every window: `window` of them, the last `overlap` of which are the next one's first."""
    if not 0 < overlap < window <= steps:
        raise ValueError(
            f"windows of {window} steps that overlap by {overlap} of {steps}: they must overlap, by fewer steps than "
            "they have, and have no more than the drive; change --window-steps, --overlap-steps or --steps"
        )
    starts = range(0, steps - overlap, window - overlap)
    return [list(range(start, min(start + window, steps))) for start in starts]


def drawn_case(rng: np.random.Generator, drive: Drive, places: list[list[int]], level: float, wild: float) -> Case:
    """A drive seen by a model without rig: windows in frames and units of their own, errors of known covariance."""
    case = true_case(drive)
    windows = []
    for steps in places:
        images = np.flatnonzero(np.isin(case.step, steps))
        images = images[rng.permutation(len(images))]
        unit = np.exp(rng.uniform(*np.log(UNIT_M)))
        window_from_camera = rigid.invert(case.world_from_camera[images[0]]) @ case.world_from_camera[images]
        window_from_camera[:, :3, 3] /= unit
        roots = error_roots(rng, len(images), level)
        tangents = (roots @ rng.normal(size=(len(images), 6, 1)))[..., 0]
        windows.append(
            WindowPoses(
                images,
                _wilder(rng, window_from_camera @ exp(tangents), wild),
                roots @ np.swapaxes(roots, -1, -2),
            )
        )
    return dataclasses.replace(case, windows=windows)


def true_case(drive: Drive) -> Case:
    """A drive without windows."""
    rig_from_camera = np.stack([camera.rig_from_camera for camera in drive.rig.cameras])
    steps, count = len(drive.times), len(rig_from_camera)
    return Case(
        (drive.world_from_rig[:, None] @ rig_from_camera).reshape(-1, 4, 4),
        np.repeat(np.arange(steps), count),
        np.tile(rig_from_camera, (steps, 1, 1)),
        (),
    )


def error_roots(rng: np.random.Generator, count: int, level: float) -> Float[np.ndarray, "n 6 6"]:
    """Square roots of covariances: correlated, unlike along the axes, of sizes that differ by half as much again."""
    mixed = np.tril(0.4 * rng.normal(size=(count, 6, 6)), -1) + np.eye(6)
    return level * _AXES[:, None] * mixed * np.exp(0.4 * rng.normal(size=(count, 1, 1)))


def _wilder(rng: np.random.Generator, window_from_camera: np.ndarray, share: float) -> np.ndarray:
    wild = rng.random(len(window_from_camera)) < share
    tangents = rng.normal(size=(len(wild), 6)) * np.repeat(_WILD, 3)
    return window_from_camera @ exp(np.where(wild[:, None], tangents, 0.0))


def rows(cases: Sequence[Case], methods: Sequence[Method], first: Row) -> Iterator[Row]:
    """One row per method, over all cases."""
    for method in methods:
        start = time.perf_counter()
        errors = [scored(case, joined(case, method)) for case in cases]
        seconds = (time.perf_counter() - start) / len(cases)
        rotation, translation, scale, expected, d2 = (np.array(column, float) for column in zip(*errors, strict=True))
        yield {
            **first,
            "method": method.name,
            "rotation deg": float(rotation.mean()),
            "translation m": float(translation.mean()),
            "scale %": float(100 * np.sqrt(np.mean(scale**2))),
            "largest scale %": float(100 * np.abs(scale).max()),
            "predicted scale %": float(100 * np.sqrt(np.mean(expected**2))),
            "d2": float(d2.mean()),
            "s": seconds,
        }


def joined(case: Case, method: Method) -> Fused:
    """The windows of a case, joined."""
    windows = case.windows
    if not method.covariances:
        windows = [dataclasses.replace(window, covariance=None) for window in windows]
    rig = (case.step, case.rig_from_camera) if method.rig else (None, None)
    links = [*case.depth_links, *(case.rig_links if method.rig else ())]
    return fuse(windows, Constraints(len(case.step), *rig, scale_links=links), method.options)


def scored(case: Case, fused: Fused) -> tuple[float, float, float, float, float]:
    """Degrees, metres, relative error of the scale, its predicted sigma, d2; NaN for what there is none of."""
    true, estimated = case.world_from_camera, fused.world_from_camera
    fit = fit_similarity(estimated[:, :3, 3], true[:, :3, 3])
    translation = float(np.sqrt(np.mean(np.sum((fit.apply(estimated[:, :3, 3]) - true[:, :3, 3]) ** 2, axis=-1))))
    turn = rigid.nearest_rotation(np.sum(true[:, :3, :3] @ np.swapaxes(estimated[:, :3, :3], -1, -2), axis=0))
    degrees = float(rotation_angle_deg(turn @ estimated[:, :3, :3], true[:, :3, :3]).mean())
    if not fused.metric:
        return degrees, translation, np.nan, np.nan, np.nan
    sigma = np.nan if fused.log_scale_sigma is None else float(fused.log_scale_sigma.mean())
    return degrees, translation, 1.0 / fit.scale - 1.0, sigma, _d2(true, fused)


def _d2(true: Float[np.ndarray, "v 4 4"], fused: Fused) -> float:
    if fused.covariance is None:
        return np.nan
    moving = fused.covariance.any(axis=(-2, -1))
    first_from_camera = rigid.invert(true[0]) @ true[moving]
    with jax.enable_x64(True):
        tangents = np.asarray(se3.log(jnp.asarray(rigid.invert(fused.world_from_camera[moving]) @ first_from_camera)))
    return float(np.einsum("ni,nij,nj->n", tangents, np.linalg.inv(fused.covariance[moving]), tangents).mean())


def exp(tangents: Float[np.ndarray, "n 6"]) -> Float[np.ndarray, "n 4 4"]:
    """Small motions: turned by exp(w), shifted by v."""
    return rigid.from_rotation_translation(Rotation.from_rotvec(tangents[:, 3:]).as_matrix(), tangents[:, :3])
