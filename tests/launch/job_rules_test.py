"""Which exit codes of a run make launch/job.sh ask SLURM for a restart, as BUILD.md tells; without a SLURM."""

import os
import re
import subprocess
import sys

import pytest

from rig3r_jax.cli.errors import EXIT_USER
from rig3r_jax.training.loop import EXIT_COPIES_DIFFER, EXIT_DIVERGED, EXIT_DONE, EXIT_INTERRUPTED
from rig3r_jax.training.saving import EXIT_NOT_SAVED, EXIT_NOT_SAVED_HERE
from rig3r_jax.training.watchdog import EXIT_STALLED

RESTARTS = {
    EXIT_DONE: False,
    EXIT_DIVERGED: False,
    EXIT_USER: False,
    EXIT_NOT_SAVED_HERE: True,
    EXIT_NOT_SAVED: False,
    EXIT_INTERRUPTED: True,
    EXIT_STALLED: True,
    EXIT_COPIES_DIFFER: False,
}


@pytest.mark.parametrize("code", RESTARTS)
def test_a_restart_is_asked_for_where_it_helps(repo, code):
    script = f"scontrol() {{ echo scontrol $*; }}\n. launch/job.sh\nfinish {code}"
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "RIG3R_VENV": sys.prefix}
    done = subprocess.run(["bash", "-c", script], cwd=repo, env=environment, capture_output=True, text=True)
    assert ("scontrol requeue 7" in done.stdout) == RESTARTS[code], done.stderr
    assert done.returncode == (0 if RESTARTS[code] else code)


def test_the_table_of_exit_codes_tells_the_same(repo):
    rows = re.findall(r"^\| (\d+) \|.*\| (yes|no) \|$", (repo / "BUILD.md").read_text(), re.MULTILINE)
    assert {int(code): answer == "yes" for code, answer in rows} == RESTARTS
