"""Evaluation of a workdir: where its files go, and the place is tried before anything is computed."""

import errno
import os
from pathlib import Path

import pytest

from rig3r_jax.configs import demo
from rig3r_jax.training import workdir as module
from rig3r_jax.training.config import save_config
from rig3r_jax.training.workdir import evaluate_workdir


class Kind:
    """A task kind that notes what it is asked for."""

    abstract_params = None

    def __init__(self):
        self.asked = []

    def problems(self, config, devices, ready=()):
        yield from ()

    def use_devices(self, config, count):
        self.config = config

    def open_task(self, config, workdir, out=None):
        self.asked.append(("open", workdir, out))
        return self

    def finish(self, params, workdir, *, step, out):
        self.asked.append(("finish", workdir, out))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """(workdir, its task kind)."""
    folder = tmp_path / "run"
    save_config(demo.get_config(), folder / "config.json")
    monkeypatch.setattr(module, "restore_params", lambda *_: (None, 7))
    monkeypatch.setattr(module, "use_compilation_cache", lambda folder: None)
    return folder, Kind()


def read_only(monkeypatch, folder: Path, number: int):
    def write(path, data, write=module.write_atomically):
        if Path(path).is_relative_to(folder):
            raise OSError(number, os.strerror(number), str(path))
        write(path, data)

    monkeypatch.setattr(module, "write_atomically", write)


def test_files_go_to_the_workdir_or_to_out(run, tmp_path):
    folder, kind = run
    evaluate_workdir(folder, kind)
    evaluate_workdir(folder, kind, out=tmp_path / "a/b", records=Path("recs"))
    assert kind.asked == [(word, folder, out) for out in (folder, tmp_path / "a/b") for word in ("open", "finish")]
    assert kind.config.data.records == os.path.abspath("recs")
    assert not list((tmp_path / "a/b").iterdir()) and {path.name for path in folder.iterdir()} == {"config.json"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_read_only_workdir_is_evaluated_and_the_log_says_where_files_go(
    run, tmp_path, monkeypatch, own_warnings, number
):
    folder, kind = run
    read_only(monkeypatch, folder, number)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    evaluate_workdir(folder, kind)
    (_, (_, workdir, out)) = kind.asked
    assert workdir == folder and out.parent == tmp_path and out.name.startswith("run-evaluation-")
    assert own_warnings() == [f"{folder}: {os.strerror(number)}; files go to {out}, --out FOLDER chooses where"]


def test_an_out_that_cannot_be_written_to_ends_it_before_it_begins(run, tmp_path, monkeypatch):
    folder, kind = run
    read_only(monkeypatch, tmp_path / "out", errno.EROFS)
    with pytest.raises(OSError) as caught:
        evaluate_workdir(folder, kind, out=tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out") and kind.asked == []


def test_an_out_under_a_file_is_named(run, tmp_path):
    folder, kind = run
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        evaluate_workdir(folder, kind, out=tmp_path / "file/x")
    assert caught.value.filename == str(tmp_path / "file/x") and kind.asked == []
