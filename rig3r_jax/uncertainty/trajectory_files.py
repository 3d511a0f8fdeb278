"""A trajectory under the weights of predicted uncertainty, written for other programs."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.evaluation.edge_weighting import WindowPredictions, solve_predicted
from rig3r_jax.formats import g2o, tum
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.formats.json_file import plain
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction
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
    d2: dict[str, float]  # of the cameras under their covariances, see `solve_predicted`
    converged: bool

    def to_json(self) -> dict[str, typing.Any]:
        """Plain numbers, lists and dicts; files by name, null for what is NaN."""
        return plain(dataclasses.asdict(self) | {"paths": [path.name for path in self.paths]})


def write_trajectory(
    folder: str | Path, name: str, predictions: WindowPredictions, images: TrajectoryImages
) -> WrittenTrajectory:
    """Solves one trajectory with predicted weights (`solve_predicted`), and writes it for other programs.

    pose_graph.g2o   the solution and its edges with the predicted information, for GTSAM (see formats.g2o)
    estimated.tum    the solution; the world is the first camera
    true.tum         the truth, in its own world
    cameras.json     the solution, with a covariance per frame that holds the first camera exact
    trajectory.png   both paths, the first cameras on top of each other
    """
    true = predictions.world_from_camera_true.astype(np.float64)
    _check_images(name, images, len(true))
    solved = solve_predicted(name, predictions)
    cameras, edges = solved.world_from_camera, solved.edges
    files = ("pose_graph.g2o", "estimated.tum", "true.tum", "cameras.json", "trajectory.png")
    graph, estimated, true_path, cameras_json, chart = paths = tuple(Path(folder) / file for file in files)
    g2o.write_g2o(graph, cameras, edges.pairs, edges.first_from_second, edges.information)
    tum.write_trajectory(estimated, images.times, cameras)
    tum.write_trajectory(true_path, images.times, true)
    write_cameras(cameras_json, _reconstruction(images, cameras, solved.covariance))
    title = f"{name}: weights of predicted uncertainty, ATE {solved.ate_m:.3g} m"
    first_from_camera_true = rigid.invert(true[0]) @ true
    write_trajectory_chart(chart, title, images.times, first_from_camera_true, cameras, solved.covariance)
    return WrittenTrajectory(paths, solved.ate_m, solved.rpe_trans_m, solved.rpe_rot_deg, solved.d2, solved.converged)


def _reconstruction(
    images: TrajectoryImages, cameras: Float[np.ndarray, "n 4 4"], covariance: Float[np.ndarray, "n 6 6"]
) -> Reconstruction:
    posed = tuple(
        PosedImage(
            name=name,
            width=int(images.sizes[frame, 0]),
            height=int(images.sizes[frame, 1]),
            lens=Pinhole(images.intrinsics[frame]),
            world_from_camera=cameras[frame],
            camera=0,
            time=float(images.times[frame] - images.times[0]),
            covariance=covariance[frame],
        )
        for frame, name in enumerate(images.names)
    )
    return Reconstruction(posed, (PhysicalCamera(0, "camera", posed[0].lens),))


def _check_images(name: str, images: TrajectoryImages, count: int) -> None:
    for field in dataclasses.fields(images):
        length = len(getattr(images, field.name))
        if length != count:
            raise ValueError(f"{name}: {field.name} of {length} images for {count} frames; give one to each frame")
