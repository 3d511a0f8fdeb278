"""`rig3r bench discovery`: rigs found out from ray maps, exact and noisy, and calibrations checked.

The rigs are those of the procedural source, one to eight cameras in all layouts, and stereo pairs 6 cm apart.
Their predictions are drawn. Beside stands k-means on ray maps with the number of clusters of the best silhouette, where
one below 0.25 is one camera ("no substantial structure", Kaufman and Rousseeuw 1990).
"""

import argparse
import dataclasses
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from rig3r_jax.benchmarks.result import Record, Row, result_name
from rig3r_jax.data.sources.procedural.rigs import draw_rig
from rig3r_jax.data.sources.procedural.source import CAMERA_COUNTS, MAX_CAMERAS
from rig3r_jax.evaluation.rig import rig_id_accuracy
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_check import check_rig
from rig3r_jax.geometry.rig_discovery import discover_rig

HOW = (
    "IDs: percent of images of the right camera after the best one-to-one assignment; counts, steps: percent of rigs "
    "whose number of cameras is right, whose time steps all are; noise: standard deviation of a prediction's rotation "
    "about each axis, and of its place along each axis in percent of the rig's RMS radius"
)
STEREO_M, DEPTHS_M = 0.06, (2.0, 5.0, 15.0)
_UNIT_M = (5.0, 15.0)  # a unit of the predictions, a scene's mean depth
_NO_STRUCTURE = 0.25  # silhouette
_RAY = 0.5  # half the width of a ray map's grid over its focal length


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Images:
    """Predictions of a rig's images in float32, shuffled, and what they are of."""

    rig_from_camera: Float[np.ndarray, "v 4 4"]
    world_from_camera: Float[np.ndarray, "v 4 4"]
    camera: Int[np.ndarray, " v"]
    step: Int[np.ndarray, " v"]

    def inputs(self, kind: str) -> dict[str, np.ndarray]:
        """Arguments of `discover_rig` beside the places in the rig, for one of INPUTS."""
        return {"nothing": {}, "poses": {"world_from_camera": self.world_from_camera}, "times": {"step": self.step}}[
            kind
        ]


INPUTS = ("times", "poses", "nothing")


def command(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Prints a row per setting and method, and writes the JSON."""
    from rig3r_jax.benchmarks.discovery_certainty import HOW_LAW, law_rows

    settings = {"rigs": options.rigs, "seed": options.seed}
    if options.law:
        kind, how, rows_of_kind = "discovery law", HOW_LAW, law_rows(options.seed, options.rigs)
    else:
        kind, how, rows_of_kind = "discovery", HOW, _all_rows(options)
        settings["check_rigs"] = options.check_rigs
        if options.workdir:
            settings |= {"drives": options.drives, "images": options.images}
    record = Record(options, result_name(kind, options, "procedural"), settings | {"notes": [how]})
    print(how, flush=True)
    for row in rows_of_kind:
        record.add(row)
    record.end()
    return 0


def _all_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Those of a run's predictions come first, as they are what its flag asks for."""
    from rig3r_jax.benchmarks.discovery_certainty import certainty_rows

    if options.workdir:
        from rig3r_jax.benchmarks.discovery_model import predicted_images

        cases = list(predicted_images(Path(options.workdir), options.drives, options.images, options.seed))
        yield from rows(f"a trained Rig3R's, held-out rigs, {options.images} images", cases)
    yield from rows("exact", [*exact_cases(options.seed), *stereo_cases(options.seed)])
    rng = np.random.default_rng([options.seed, 1])
    yield from rows("2 degrees, 5%", [drawn(rng, any_rig(rng), 4, 2.0, 0.05) for _ in range(options.rigs // 5)])
    yield from certainty_rows(options.seed, options.rigs)
    yield from check_rows(options.seed, options.check_rigs)


def any_rig(rng: np.random.Generator, count: int | None = None) -> Float[np.ndarray, "k 4 4"]:
    """Places of a procedural rig's cameras in a unit of its own."""
    count = int(rng.integers(1, MAX_CAMERAS + 1)) if count is None else count
    return _places(rng, count, tuple(CAMERA_COUNTS), rng.uniform(*_UNIT_M))


def _places(rng: np.random.Generator, count: int, layouts: tuple[str, ...], unit: float) -> np.ndarray:
    places = np.stack([camera.rig_from_camera for camera in draw_rig(rng, count, 64, layouts).cameras])
    places[:, :3, 3] /= unit
    return places


def exact_cases(seed: int) -> Iterator[Images]:
    """Every layout with every number of cameras, of 2, 4 and 8 steps."""
    rng = np.random.default_rng([seed, 0])
    for layout, counts in CAMERA_COUNTS.items():
        for count in counts:
            for steps in (2, 4, 8):
                yield drawn(rng, _places(rng, count, (layout,), rng.uniform(*_UNIT_M)), steps)


def stereo_cases(seed: int) -> Iterator[Images]:
    """Parallel cameras 6 cm apart."""
    rng = np.random.default_rng([seed, 2])
    for depth in DEPTHS_M:
        places = np.tile(np.eye(4), (2, 1, 1))
        places[1, 0, 3] = STEREO_M / depth
        for steps in (2, 4, 8):
            yield drawn(rng, places, steps)


def drawn(
    rng: np.random.Generator, places: Float[np.ndarray, "k 4 4"], steps: int, degrees: float = 0.0, share: float = 0.0
) -> Images:
    """Predictions with errors of `degrees` and `share` of the rig's radius, or of 0.01 units for a smaller rig."""
    count = len(places)
    order = rng.permutation(count * steps)
    camera, step = np.tile(np.arange(count), steps)[order], np.repeat(np.arange(steps), count)[order]
    world_from_rig = np.tile(np.eye(4), (steps, 1, 1))
    yaw = np.cumsum(rng.normal(0.0, 0.05, (steps, 1)), axis=0)
    world_from_rig[:, :3, :3] = Rotation.from_rotvec(yaw * [0, 1, 0]).as_matrix()
    world_from_rig[:, :3, 3] = np.cumsum(rng.normal([0, 0, 0.2], [0.01, 0.002, 0.03], (steps, 3)), axis=0)
    length = share * max(_radius(places), 0.01)
    poses = (places[camera], world_from_rig[step] @ places[camera])
    return Images(*(_with_errors(rng, true, degrees, length).astype(np.float32) for true in poses), camera, step)


def _radius(places: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.var(places[:, :3, 3], axis=0))))


def _with_errors(rng: np.random.Generator, poses: np.ndarray, degrees: float, length: float) -> np.ndarray:
    turns = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(len(poses), 3))).as_matrix()
    return poses @ rigid.from_rotation_translation(turns, length * rng.normal(size=(len(poses), 3)))


def rows(noise: str, cases: Sequence[Images]) -> Iterator[Row]:
    """One row per method and what it has beside the places in the rig, over all cases."""
    for kind in INPUTS:
        rigs = [(case, discover_rig(case.rig_from_camera, **case.inputs(kind))) for case in cases]
        steps = [rig.step is not None and rig_id_accuracy(rig.step, case.step) == 1.0 for case, rig in rigs]
        yield _row(noise, "discovery", kind, [(case, rig.camera) for case, rig in rigs]) | {
            "steps %": 100 * float(np.mean(steps)) if kind == "poses" else None
        }
    yield _row(
        noise, "k-means, silhouette", "nothing", [(case, kmeans_cameras(case.rig_from_camera)) for case in cases]
    )


def _row(noise: str, method: str, kind: str, cameras: Sequence[tuple[Images, np.ndarray]]) -> dict[str, typing.Any]:
    accuracy = [rig_id_accuracy(camera, case.camera) for case, camera in cameras]
    counts = [len(np.unique(camera)) == len(np.unique(case.camera)) for case, camera in cameras]
    return {
        "noise": noise, "method": method, "input": kind, "rigs": len(cameras),
        "IDs %": 100 * float(np.mean(accuracy)), "counts %": 100 * float(np.mean(counts)),
    }  # fmt: skip


def kmeans_cameras(rig_from_camera: Float[np.ndarray, "v 4 4"]) -> Int[np.ndarray, " v"]:
    """Cameras by k-means of ray maps (directions and centre in the rig), of the k of the best silhouette."""
    grid = np.stack(np.meshgrid(*[np.linspace(-_RAY, _RAY, 4)] * 2), axis=-1).reshape(-1, 2)
    rays = np.column_stack([grid, np.ones(len(grid))])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    directions = (rig_from_camera[:, None, :3, :3] @ rays[..., None])[..., 0]
    maps = np.concatenate([directions, np.repeat(rig_from_camera[:, None, :3, 3], len(rays), axis=1)], axis=-1)
    features = maps.reshape(len(maps), -1).astype(np.float64) / np.sqrt(len(rays))
    apart = cdist(features, features)
    best = (_NO_STRUCTURE, np.zeros(len(maps), np.int64))
    for count in range(2, min(MAX_CAMERAS, len(maps) - 1) + 1):
        labels = kmeans2(features, count, iter=50, minit="++", seed=0, missing="warn")[1]
        best = max(best, (_silhouette(apart, labels), labels), key=lambda scored: scored[0])
    return best[1]


def _silhouette(apart: np.ndarray, labels: np.ndarray) -> float:
    """Mean of (b - a) / max(a, b): mean distances to the own cluster and the nearest other (Rousseeuw 1987)."""
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return -1.0
    member = np.eye(len(names))[index]
    sums, counts = apart @ member, member.sum(axis=0)
    rows_ = np.arange(len(labels))
    own = sums[rows_, index] / np.maximum(counts[index] - 1, 1)
    others = sums / counts
    others[rows_, index] = np.inf
    other = others.min(axis=1)
    return float(np.mean(np.where(counts[index] > 1, (other - own) / np.maximum(np.maximum(own, other), 1e-12), 0.0)))


def check_rows(seed: int, rigs: int) -> Iterator[Row]:
    """Six cameras, ten steps: false alarms of untouched rigs, and a camera turned by a degree about any axis."""
    rng, alarms, named, accused = np.random.default_rng([seed, 4]), [], [], []
    for _ in range(rigs):
        places, turned = any_rig(rng, 6), int(rng.integers(6))
        axis = rng.normal(size=3)
        moved = places.copy()
        moved[turned, :3, :3] @= Rotation.from_rotvec(np.radians(1.0) * axis / np.linalg.norm(axis)).as_matrix()
        now, still = (drawn(rng, rig, 10, 0.5, 0.02) for rig in (moved, places))
        alarms.append(bool(check_rig(places, still.rig_from_camera, still.camera).moved))
        moved_cameras = check_rig(places, now.rig_from_camera, now.camera).moved
        named.append(turned in moved_cameras)
        accused.append(bool(set(moved_cameras) - {turned}))
    yield {
        "noise": "0.5 degrees, 2%", "method": "check, 1 of 6 turned 1 degree", "input": "cameras", "rigs": rigs,
        "found %": 100 * float(np.mean(named)), "others accused %": 100 * float(np.mean(accused)),
        "false alarms %": 100 * float(np.mean(alarms)),
    }  # fmt: skip
