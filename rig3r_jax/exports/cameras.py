"""cameras.json, version 2: all that is known of the cameras, nothing rounded."""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.exports.job import Job
from rig3r_jax.formats.cameras_json import write_cameras


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file."""
    write_cameras(path, job.reconstruction)
    return []
