"""What the commands that train and evaluate print of errors that are told elsewhere, too."""

import logging
import sys

import pytest

from rig3r_jax import cli
from rig3r_jax.cli.train import not_of_orbax_threads
from rig3r_jax.configs import demo
from rig3r_jax.training import host, processes, workdir, xla
from rig3r_jax.training.config import save_config


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (processes.ReportedElsewhere("ValueError: process 0 says this"), ""),
        (ValueError("no checkpoint"), "rig3r evaluate: no checkpoint\n"),
        (FileNotFoundError("none"), "rig3r evaluate: none\n"),
    ],
)
def test_evaluate_leaves_to_process_0_what_it_has_printed(monkeypatch, tmp_path, capsys, error, printed):
    def evaluate(*arguments, **more):
        raise error

    save_config(demo.get_config(), tmp_path / "config.json")
    monkeypatch.setattr(workdir, "evaluate_workdir", evaluate)
    monkeypatch.setattr(host, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(xla, "use_flags", lambda: None)
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err == printed


def record(path: str, fails: bool) -> logging.LogRecord:
    """What a library logs, of an error or of none."""
    try:
        if fails:
            raise OSError("disk is full\nof it")
        caught = None
    except OSError:
        caught = sys.exc_info()
    return logging.LogRecord("absl", logging.ERROR, path, 1, "step %d was not deleted", (3,), caught)


def test_errors_in_threads_of_orbax_are_left_to_the_save_that_raises_them():
    paths = {"orbax": "/x/orbax/checkpoint/future.py", "absl": "/x/absl/app.py"}
    records = {(name, fails): record(path, fails) for name, path in paths.items() for fails in (True, False)}
    kept = {key for key, entry in records.items() if not_of_orbax_threads(entry)}
    assert kept == {("orbax", False), ("absl", True), ("absl", False)}
    thrown_away = record("/usr/lib/asyncio/base_events.py", True)
    assert not_of_orbax_threads(thrown_away)
    thrown_away.exc_info = (ValueError, ValueError('Error writing "step" in OCDBT database at local file "x"'), None)
    assert not not_of_orbax_threads(thrown_away)
