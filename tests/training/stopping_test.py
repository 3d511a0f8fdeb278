"""Signals that ask a run of one process to stop."""

import os
import signal
import subprocess
import sys

import pytest

from rig3r_jax.training import stopping
from rig3r_jax.training.stopping import StopRequest


@pytest.fixture
def calls():
    """Signals that reach the handlers of whoever runs us."""
    received = []
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_early_signal_is_remembered_and_the_others_keep_their_effect(calls):
    with StopRequest() as stop:
        assert not stop.after(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls == [signal.SIGTERM] and not stop.after(2)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.after(3) and stop.after(4) and len(calls) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_more_signals_change_nothing(calls, number):
    with StopRequest() as stop:
        stop.hear_all()
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert stop.after(1) and calls == []


def test_ctrl_c_a_second_later_ends_the_run_at_once(calls, monkeypatch):
    with StopRequest() as stop:
        stop.hear_all()
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(stopping, "AGAIN_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.after(1) and calls == []
        os.kill(os.getpid(), signal.SIGINT)
        assert calls == [signal.SIGINT]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_once_all_is_saved_a_signal_ends_the_process(repo, name):
    code = (
        "import os, signal; from rig3r_jax.training.stopping import StopRequest\n"
        "with StopRequest() as stop:\n    stop.hear_all(); stop.hear_with(75)\n"
        f"    os.kill(os.getpid(), signal.{name}); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=100)
    assert done.returncode == 75 and done.stdout == "" and f"{name}: the state is saved" in done.stderr


def test_handlers_are_given_back(calls):
    with StopRequest() as stop:
        stop.hear_all()
        stop.close()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(os.getpid(), number)
    assert calls == [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT] and not stop.after(1)
