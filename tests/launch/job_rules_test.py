"""Which exit codes of a run make launch/job.sh ask SLURM for a restart; without a SLURM."""

import os
import subprocess
import sys

import pytest

from rig3r_jax.training.loop import EXIT_DIVERGED, EXIT_DONE, EXIT_INTERRUPTED
from rig3r_jax.training.saving import EXIT_NOT_SAVED, EXIT_NOT_SAVED_HERE
from rig3r_jax.training.watchdog import EXIT_STALLED


@pytest.mark.parametrize(
    ("code", "restarts"),
    [
        (EXIT_DONE, False),
        (EXIT_DIVERGED, False),
        (2, False),
        (EXIT_INTERRUPTED, True),
        (EXIT_STALLED, True),
        (EXIT_NOT_SAVED_HERE, True),
        (EXIT_NOT_SAVED, False),
    ],
)
def test_a_restart_is_asked_for_where_it_helps(repo, code, restarts):
    script = f"scontrol() {{ echo scontrol $*; }}\n. launch/job.sh\nfinish {code}"
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "RIG3R_VENV": sys.prefix}
    done = subprocess.run(["bash", "-c", script], cwd=repo, env=environment, capture_output=True, text=True)
    assert ("scontrol requeue 7" in done.stdout) == restarts, done.stderr
    assert done.returncode == (0 if restarts else code)
