"""The watchdog: silent while there is progress; else stacks and its exit code, whatever the process hangs in."""

import subprocess
import sys
import time

import pytest

_PROGRAM = """
import ctypes, threading, time
from rig3r_jax.training.watchdog import Watchdog, progress

def a_function_that_waits():
    threading.Event().wait()

with Watchdog({seconds}, "process 3 of 4"):
    for step in range(10):
        progress(f"running step {{step}}")
        time.sleep(0.1)
    {then}
print("ended by itself")
"""


def _run(repo, seconds: float, then: str = "") -> subprocess.CompletedProcess:
    code = _PROGRAM.format(seconds=seconds, then=then)
    return subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_progress_keeps_it_silent(repo, seconds):
    done = _run(repo, seconds)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended by itself\n", "")


def test_slow_storage_is_no_stall_but_a_process_that_computes_is_one_whatever_its_loader_does(repo):
    wait = (
        "from rig3r_jax.training import watchdog; watchdog._current.progress('waiting for the data', for_data={});"
        " [(time.sleep(0.2), watchdog.sample_made()) for _ in range(15)]"
    )
    done = _run(repo, 1.0, wait.format(True))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended by itself\n", "")
    assert _run(repo, 1.0, wait.format(False)).returncode == 76


def test_a_process_that_waits_for_ever_is_ended_with_its_stacks(repo):
    start = time.monotonic()
    done = _run(repo, 0.8, "a_function_that_waits()")
    assert done.returncode == 76 and time.monotonic() - start < 30
    assert "process 3 of 4 made no progress for" in done.stderr and "while running step 9" in done.stderr
    assert "in a_function_that_waits" in done.stderr


def test_an_interpreter_that_is_stuck_is_ended_too(repo):
    # PyDLL keeps the interpreter while C sleeps: no thread of Python's runs any more.
    done = _run(repo, 0.8, "ctypes.PyDLL(None).sleep(50)")
    assert done.returncode != 0 and "ended by itself" not in done.stdout
    assert "Timeout" in done.stderr
