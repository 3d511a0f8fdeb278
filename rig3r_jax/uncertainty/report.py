"""The end of an uncertainty run in files: is it calibrated, and what is it worth.

calibration.json, .md        the report of the test windows, before and after recalibration on the validation ones
calibration/*.png            reliability, chi-square, whitened covariance, sigma against error
charts/*.png                 the curves of the training, with summary_table.md
pose_graph.json, .md         held-out trajectories under uniform, constant, predicted and oracle weights
trajectories/<name>/         each as g2o, TUM and cameras.json with a covariance per image, and a chart
"""

import logging
import re
import typing
from pathlib import Path

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.window_stream import WindowStream
from rig3r_jax.evaluation.calibration import CalibrationReport, calibration_report
from rig3r_jax.evaluation.calibration_table import report_markdown, summary_markdown
from rig3r_jax.evaluation.edge_weighting import constant_sigma
from rig3r_jax.evaluation.weighting_comparison import REPORTED_KERNELS, compare_over_trajectories, format_comparisons
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import write_json
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training.records import Records
from rig3r_jax.uncertainty.backbone import Backbone
from rig3r_jax.uncertainty.head import error_samples
from rig3r_jax.uncertainty.objective import WindowBatch, last_residuals
from rig3r_jax.uncertainty.pools import Pools, open_stream, windows_of
from rig3r_jax.uncertainty.trajectories import covering_windows, trajectory_predictions
from rig3r_jax.uncertainty.trajectory_files import TrajectoryImages, write_trajectory
from rig3r_jax.viz.calibration_charts import write_calibration_charts
from rig3r_jax.viz.histories import read_history
from rig3r_jax.viz.metric_charts import write_charts

logger = logging.getLogger(__name__)


@typing.runtime_checkable
class HeadRun(typing.Protocol):
    """What a report wants to know of an uncertainty run."""

    config: ConfigDict
    records: Records
    backbone: Backbone
    pools: Pools
    nll: NllOptions
    windows: WindowBatch  # of the training pool


def write_report(task: HeadRun, params: PyTree, workdir: Path, out: Path, *, step: int) -> None:
    """Everything above, of these parameters of a head, into `out`, and a summary on the screen."""
    samples, validation = (
        error_samples(params, windows, task.nll) for windows in (task.pools.test, task.pools.validation)
    )
    residual = last_residuals(task.windows)
    report = calibration_report(samples, residual, recalibrate_on=validation)
    print(f"{workdir}, step {step}, backbone {task.backbone.name}\n")
    print(summary_markdown({"test": report}), flush=True)
    write_calibration(report, out, {"step": step, "backbone": task.backbone.name})
    if (workdir / "metrics.jsonl").exists():
        write_charts({task.config.name: read_history(workdir)}, out / "charts")
    if task.config.evaluation.trajectories:
        print(write_trajectories(task, params, out))


def write_calibration(report: CalibrationReport, workdir: Path, header: dict[str, typing.Any]) -> None:
    """calibration.json, which begins with the `header`, calibration.md and the charts."""
    content = report.to_json()
    write_json(workdir / "calibration.json", {**header, **content})
    write_atomically(workdir / "calibration.md", report_markdown(report).encode())
    write_calibration_charts(content, workdir / "calibration")


def write_trajectories(task: HeadRun, params: PyTree, workdir: Path) -> str:
    """The first sequences of the test split as pose graphs, with the head's `params`; returns the table."""
    config, sigma = task.config, constant_sigma(last_residuals(task.windows))
    stream = open_stream(config, task.records, task.backbone, "test")
    predictions, written = {}, {}
    for name, sequence in stream.sequences.items():
        if len(predictions) == config.evaluation.trajectories:
            break
        frames = covering_windows(name, len(sequence), task.pools.test.views, config.evaluation.overlap)
        try:
            windows = windows_of(stream, task.backbone, name, frames, config.backbone.batch_size)
        except BadRecord as error:
            logger.warning("left out the trajectory %s: %s", name, error)
            continue
        true = sequence.world_from_camera
        predictions[name] = trajectory_predictions(windows, frames, true, params, task.nll, name)
        folder = workdir / "trajectories" / re.sub(r"[^\w.-]+", "_", name)
        written[name] = write_trajectory(folder, name, predictions[name], _images(stream, name)).to_json()
    comparisons = [compare_over_trajectories(predictions, sigma, kernel) for kernel in REPORTED_KERNELS]
    table = format_comparisons(comparisons)
    content = {"comparisons": [comparison.to_json() for comparison in comparisons], "trajectories": written}
    write_json(workdir / "pose_graph.json", content)
    write_atomically(workdir / "pose_graph.md", table.encode())
    return f"{len(predictions)} held-out trajectories\n\n{table}"


def _images(stream: WindowStream, name: str) -> TrajectoryImages:
    """The images of a sequence as they were recorded."""
    sequence = stream.sequences[name]
    scene = stream.sources[sequence.source][1][sequence.record]
    camera = scene.cameras[scene.frames[sequence.frames[0]].camera]
    count = len(sequence)
    return TrajectoryImages(
        names=tuple(f"{scene.name}/{camera.name}/{time:.6f}" for time in sequence.times.tolist()),
        sizes=np.tile(np.array(camera.size[::-1]), (count, 1)),
        intrinsics=np.tile(camera.lens.intrinsics, (count, 1, 1)),
        times=sequence.times,
    )
