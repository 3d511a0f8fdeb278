"""Which code runs."""

import functools
import subprocess
from pathlib import Path


@functools.cache
def commit() -> str:
    """Short hash of the package's commit, `+` behind it where files differ; "" outside a repository."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
