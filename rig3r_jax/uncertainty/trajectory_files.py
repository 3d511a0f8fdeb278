"""A trajectory under the weights of predicted uncertainty, written for other programs."""

import dataclasses
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.evaluation.edge_weighting import WindowPredictions, information_of
from rig3r_jax.evaluation.error_samples import ErrorSamples, squared_distances
from rig3r_jax.evaluation.pose_graph import PoseGraph, chain, marginal_covariances, optimize, star_edges
from rig3r_jax.evaluation.trajectory import absolute_errors, align_trajectory, relative_errors, statistics
from rig3r_jax.formats import g2o, tum
from rig3r_jax.formats.cameras_json import ImageCamera, write_cameras
from rig3r_jax.formats.json_file import plain
from rig3r_jax.geometry import se3
from rig3r_jax.uncertainty.trajectories import check_covered
from rig3r_jax.viz.trajectory_charts import write_trajectory_chart


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class TrajectoryImages:
    """The images of one camera's trajectory, frame by frame."""

    names: tuple[str, ...]  # relative paths, all different
    sizes: Int[np.ndarray, "n 2"]  # width, height
    intrinsics: Float[np.ndarray, "n 3 3"]  # pixels
    times: Float[np.ndarray, "n"]  # seconds, never descending


@dataclasses.dataclass(frozen=True)
class WrittenTrajectory:
    """What `write_trajectory` wrote, and how good it is."""

    paths: tuple[Path, ...]
    ate_m: float  # after se3 alignment
    rpe_trans_m: float
    rpe_rot_deg: float
    d2: dict[str, float]  # see write_trajectory
    converged: bool

    def to_json(self) -> dict[str, typing.Any]:
        """Plain numbers, lists and dicts; files by name, null for what is NaN."""
        return plain(dataclasses.asdict(self) | {"paths": [path.name for path in self.paths]})


def write_trajectory(
    folder: str | Path, name: str, predictions: WindowPredictions, images: TrajectoryImages
) -> WrittenTrajectory:
    """Solves one trajectory with predicted weights and no robust kernel, and writes it for other programs.

        pose_graph.g2o   the solution and its edges with the predicted information, for GTSAM (see formats.g2o)
        estimated.tum    the solution; the world is the first camera
        true.tum         the truth, in its own world
        cameras.json     the solution, with a covariance per frame that holds the first camera exact
        trajectory.png   both paths, the first cameras on top of each other

    `d2` of what is returned: mean squares of the solution's errors (first cameras coincide) over these covariances;
    3 is calibrated for trans and rot, 6 for pose. Overlapping windows see the same images, so their errors are not as
    independent as the graph takes them to be: expect more.
    """
    folder, true = Path(folder), predictions.world_from_camera_true.astype(np.float64)
    check_covered(name, predictions.windows, len(true))
    _check_images(name, images, len(true))
    try:
        information = information_of("predicted", predictions, np.ones(6))
        edges = star_edges(predictions.windows, predictions.first_from_camera, information)
        solution = optimize(PoseGraph(chain(len(true), edges), edges))
        solved = PoseGraph(solution.world_from_camera, edges)
        covariance = marginal_covariances(solved)
        cameras = solution.world_from_camera
        aligned = align_trajectory(cameras, true, "se3").world_from_camera
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    first_from_camera_true = np.linalg.inv(true[0]) @ true
    ate = statistics(absolute_errors(aligned, true))["rmse"]
    paths = [
        folder / file for file in ("pose_graph.g2o", "estimated.tum", "true.tum", "cameras.json", "trajectory.png")
    ]
    g2o.write_g2o(paths[0], cameras, edges.pairs, edges.first_from_second, edges.information)
    tum.write_trajectory(paths[1], images.times, cameras)
    tum.write_trajectory(paths[2], images.times, true)
    write_cameras(paths[3], _image_cameras(images, cameras, covariance))
    title = f"{name}: weights of predicted uncertainty, ATE {ate:.3g} m"
    write_trajectory_chart(paths[4], title, images.times, first_from_camera_true, cameras, covariance)
    return WrittenTrajectory(
        tuple(paths),
        ate,
        statistics(relative_errors(cameras, true))["rmse"],
        statistics(relative_errors(cameras, true, "rot_deg"))["rmse"],
        _graph_d2(cameras, first_from_camera_true, covariance),
        solution.converged,
    )


def _image_cameras(images: TrajectoryImages, cameras: np.ndarray, covariance: np.ndarray) -> list[ImageCamera]:
    return [
        ImageCamera(
            name=name,
            width=int(images.sizes[frame, 0]),
            height=int(images.sizes[frame, 1]),
            intrinsics=images.intrinsics[frame],
            world_from_camera=cameras[frame],
            camera=0,
            time=float(images.times[frame] - images.times[0]),
            covariance=covariance[frame],
        )
        for frame, name in enumerate(images.names)
    ]


def _graph_d2(cameras: np.ndarray, first_from_camera_true: np.ndarray, covariance: np.ndarray) -> dict[str, float]:
    with jax.enable_x64(True):
        true_in_estimated = np.linalg.inv(cameras[1:]) @ first_from_camera_true[1:]
        errors = np.asarray(se3.log(jnp.asarray(true_in_estimated)), np.float64)
    distances = squared_distances(ErrorSamples(errors, covariance[1:]))
    return {part: float(np.mean(values)) for part, values in distances.items()}


def _check_images(name: str, images: TrajectoryImages, count: int) -> None:
    for field in dataclasses.fields(images):
        found = len(getattr(images, field.name))
        if found != count:
            raise ValueError(f"{name}: {field.name} of {found} images for {count} frames; give one to each frame")
