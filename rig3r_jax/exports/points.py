"""points.ply: coloured points with confidence and expected error, in the reconstruction's world (OpenCV's axes)."""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.exports.job import Job
from rig3r_jax.formats.ply import write_ply


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file; CannotHold where there are no points."""
    points = job.dense
    write_ply(path, points.points_world, points.colors, points.confidence, points.error)
    return [points.counted()]
