"""Records on disk: whole or absent, reused only for the same options, damage and bad scenes named."""

import json
import os
import subprocess
import sys

import pytest

from rig3r_jax.data import sources
from rig3r_jax.data.build import _partial_prefix, build_records
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord, Scene
from tests.data.made_source import loaders, make_source, scene_of
from tests.data.records_test import change_frame


@pytest.fixture
def source(monkeypatch):
    return make_source(monkeypatch, {"train": loaders(*range(70)), "val": loaders(70, 71)})


def build(out, **options):
    return build_records("made", sources.make_source("made", "", options), out, progress=False)


def test_records_are_reused_for_the_same_options_only(source, tmp_path):
    out = tmp_path / "records"
    first = build(out, size=2)
    again = build(out, size=2)
    assert again.reused and again.splits == first.splits and source.reads == 2
    options = r"options: \{'size': 2\} there, \{'size': 3\} asked"
    with pytest.raises(ValueError, match=rf"{options}.*delete it first: rm -r {out}$"):
        build(out, size=3)
    source.VERSION = 2
    with pytest.raises(ValueError, match="source_version"):
        build(out, size=2)


def test_foreign_folder_is_left_alone(source, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="exists and holds no records"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_killed_build_leaves_nothing_that_counts(source, tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    prefix = _partial_prefix(tmp_path / "records")
    (tmp_path / f"{prefix}{finished.pid}").mkdir()
    (tmp_path / f"{prefix}{os.getppid()}").mkdir()  # of a process that runs
    (tmp_path / "records").mkdir()  # an empty folder may be filled
    build(tmp_path / "records")
    assert {path.name for path in tmp_path.iterdir()} == {"records", f"{prefix}{os.getppid()}"}


def test_failed_build_leaves_nothing(monkeypatch, tmp_path):
    def crash() -> Scene:
        raise RuntimeError("a bug")

    make_source(monkeypatch, {"train": [*loaders(0), ("scene_1", crash)]})
    with pytest.raises(RuntimeError, match="a bug"):
        build(tmp_path / "records")
    assert not any(tmp_path.iterdir())


def test_bad_scenes_are_skipped_counted_and_named(monkeypatch, tmp_path):
    def missing() -> Scene:
        raise BadRecord("/data/7.jpg: cannot be read (No such file or directory); restore the file")

    bad = [("missing", missing), ("corrupt", lambda: change_frame(scene_of(3), 1, image=b"\xff\xd8")), *loaders(5)]
    make_source(monkeypatch, {"train": [*loaders(*range(27)), *bad], "empty": []})
    report = build(tmp_path / "records")
    assert report.splits == {"train": 27, "empty": 0}
    assert [name for name, _ in report.skipped] == ["train/missing", "train/corrupt", "train/scene_5"]
    assert "/data/7.jpg" in report.skipped[0][1] and "scene_3" in report.skipped[1][1]
    assert "twice" in report.skipped[2][1]
    entries = json.loads((tmp_path / "records/quarantine.json").read_text())
    assert [(entry["scene"], entry["reason"]) for entry in entries] == report.skipped
    assert "3 scenes left out" in report.summary() and "train/missing: /data/7.jpg" in report.summary()
    assert build(tmp_path / "records").skipped == report.skipped
    with pytest.raises(BadRecord, match="'empty' has no records"):
        RecordSource(tmp_path / "records", "empty")


@pytest.mark.parametrize("good, bad", [(8, 1), (0, 3), (10, 400)])
def test_too_many_bad_scenes_end_the_build(monkeypatch, tmp_path, good, bad):
    def load() -> Scene:
        raise BadRecord("no good")

    loaders_of_split = {"train": [*loaders(*range(good)), *((f"bad_{n}", load) for n in range(bad))]}
    make_source(monkeypatch, loaders_of_split)
    with pytest.raises(BadRecord, match=f"of {good + bad} scenes are bad.*\n  train/bad_0: no good"):
        build(tmp_path / "records")
    assert not any(tmp_path.iterdir())


def test_source_without_scenes_is_one_error(monkeypatch, tmp_path):
    make_source(monkeypatch, {"train": []})
    with pytest.raises(BadRecord, match="finds no scenes"):
        build(tmp_path / "records")


def test_bad_options_are_named(source, tmp_path):
    with pytest.raises(ValueError, match="unknown source 'daddy'.*did you mean 'ddad'"):
        sources.make_source("daddy")
    with pytest.raises(ValueError, match="has no option sise; did you mean size.; options and their defaults: size=1"):
        build(tmp_path / "records", sise=3)
    with pytest.raises(ValueError, match=r"size=\{1, 2\} must be a whole number"):
        build(tmp_path / "records", size={1, 2})


def test_option_newer_than_the_records_had_its_default(source, tmp_path):
    out = tmp_path / "records"
    build(out)
    content = json.loads((out / "build.json").read_text())
    del content["asked"]["options"]["size"]
    (out / "build.json").write_text(json.dumps(content))
    assert build(out, size=1).reused
    with pytest.raises(ValueError, match=r"'size': 1\} there, .*'size': 2\} asked"):
        build(out, size=2)


def test_missing_package_is_named_before_anything_is_read(source, tmp_path):
    source.requires = ("no_such_package", "json")
    with pytest.raises(ValueError, match="'made' needs no_such_package: pip install no_such_package"):
        build(tmp_path / "records")
    assert not source.reads and not any(tmp_path.iterdir())


def test_command_builds_with_a_bar_and_without_tensorflow(tmp_path):
    code = (
        "import sys, pytest; import tests.data.made_source as t; from rig3r_jax import cli; "
        "from rig3r_jax.data.record_source import RecordSource; "
        "t.make_source(pytest.MonkeyPatch(), {'train': t.loaders(0, 1)}); "
        f"assert cli.main(['build-data', 'made', '--out', {str(tmp_path / 'records')!r}, 'size=3']) == 0; "
        f"assert len(RecordSource({str(tmp_path / 'records')!r}, 'train')[1].frames) == 6; "
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "scenes per split: train 2" in done.stdout and "2/2" in done.stderr and "scene/s" in done.stderr
