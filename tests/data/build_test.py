"""Records on disk: whole or absent, reused only for the same options, damage and bad scenes named."""

import json
import os
import pickle
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow_datasets as tfds

from rig3r_jax.data import records
from rig3r_jax.data.build import _partial_prefix, build_data, build_records
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.sources import SOURCES
from tests.data.records_test import assert_same, change_frame
from tests.data.scenes import make_scene


def scene_of(number):
    return make_scene(number, steps=2)


def make_source(loaders_of_split):
    """A source of given loaders that counts how often it was read."""

    def scene_loaders(root, split, *, size=1):
        source.reads += 1
        return loaders_of_split[split]

    source = types.ModuleType("made")
    source.reads = 0
    source.splits = lambda root, **options: tuple(loaders_of_split)
    source.scene_loaders = scene_loaders
    return source


def loaders(*numbers):
    return [(f"scene_{number}", lambda number=number: scene_of(number)) for number in numbers]


@pytest.fixture
def source(monkeypatch):
    source = make_source({"train": loaders(*range(70)), "val": loaders(70, 71)})
    monkeypatch.setitem(SOURCES, "made", source)
    return source


def build(out, **options):
    return build_records("made", "", out, options, progress=False)


def test_scenes_come_back_in_order(source, tmp_path):
    report = build(tmp_path / "records")
    assert report.splits == {"train": 70, "val": 2} and not report.skipped and not report.reused
    train = RecordSource(tmp_path / "records", "train")
    assert len(train) == 70 and len(list(train)) == 70
    for number in (0, 1, 63, 64, 69):  # 64 begins the second file
        assert_same(scene_of(number), train[number])
    assert_same(scene_of(69), train[-1])
    with pytest.raises(IndexError, match="70 of 70"):
        train[70]


def test_records_are_a_tfds_data_source(source, tmp_path):
    build(tmp_path / "records")
    scenes, frames = (
        tfds.data_source(name, split="val", data_dir=tmp_path / "records") for name in ("rig_scenes", "rig_frames")
    )
    assert_same(scene_of(71), records.example_to_scene(scenes[1], frames.__getitem__))


def test_source_is_read_by_threads_and_pickles(source, tmp_path):
    build(tmp_path / "records")
    train = pickle.loads(pickle.dumps(RecordSource(tmp_path / "records", "train")))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda n: train[n % 70].name, range(280)))
    assert names == [f"scene_{n % 70}" for n in range(280)]


def test_records_are_reused_for_the_same_options_only(source, tmp_path):
    out = tmp_path / "records"
    first = build(out, size=2)
    again = build(out, size=2)
    assert again.reused and again.splits == first.splits and source.reads == 2
    with pytest.raises(ValueError, match=r"options: \{'size': 2\} there, \{'size': 3\} asked.*delete it first"):
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

    monkeypatch.setitem(SOURCES, "made", make_source({"train": [*loaders(0), ("scene_1", crash)]}))
    with pytest.raises(RuntimeError, match="a bug"):
        build(tmp_path / "records")
    assert not any(tmp_path.iterdir())


def test_bad_scenes_are_skipped_counted_and_named(monkeypatch, tmp_path):
    def missing() -> Scene:
        raise BadRecord("/data/7.jpg: cannot be read (No such file or directory); restore the file")

    bad = [("missing", missing), ("corrupt", lambda: change_frame(scene_of(3), 1, image=b"\xff\xd8")), *loaders(5)]
    monkeypatch.setitem(SOURCES, "made", make_source({"train": [*loaders(*range(27)), *bad], "empty": []}))
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
    monkeypatch.setitem(SOURCES, "made", make_source(loaders_of_split))
    with pytest.raises(BadRecord, match=f"of {good + bad} scenes are bad.*\n  train/bad_0: no good"):
        build(tmp_path / "records")
    assert not any(tmp_path.iterdir())


def test_source_without_scenes_is_one_error(monkeypatch, tmp_path):
    monkeypatch.setitem(SOURCES, "made", make_source({"train": []}))
    with pytest.raises(BadRecord, match="finds no scenes"):
        build(tmp_path / "records")


def test_bad_options_are_named(source, tmp_path):
    with pytest.raises(ValueError, match="unknown source 'daddy'.*did you mean 'ddad'"):
        build_records("daddy", "", tmp_path / "records", {})
    with pytest.raises(ValueError, match="no option sise; options: size"):
        build(tmp_path / "records", sise=3)
    with pytest.raises(ValueError, match="JSON"):
        build(tmp_path / "records", size={1, 2})
    with pytest.raises(ValueError, match="key=value"):
        build_data("made", "", str(tmp_path / "records"), ["size"])


def record_file(folder, part="rig_frames"):
    return next(folder.glob(f"{part}/*/*val*array_record*"))


@pytest.mark.parametrize("part", ["rig_scenes", "rig_frames"])
@pytest.mark.parametrize("keep", [0, 1000, -1000])
def test_truncated_file_is_named(source, tmp_path, keep, part):
    build(tmp_path / "records")
    file = record_file(tmp_path / "records", part)
    os.truncate(file, keep % file.stat().st_size)
    with pytest.raises(BadRecord, match=f"{file.name}: has .* was written with"):
        RecordSource(tmp_path / "records", "val")


def test_missing_file_is_named(source, tmp_path):
    build(tmp_path / "records")
    file = record_file(tmp_path / "records")
    file.unlink()
    with pytest.raises(BadRecord, match=f"{file.name}: is missing"):
        RecordSource(tmp_path / "records", "val")


def test_damaged_file_is_named(source, tmp_path):
    build(tmp_path / "records")
    file = record_file(tmp_path / "records")
    with open(file, "r+b") as handle:
        handle.seek(65536)
        handle.write(b"\0" * (file.stat().st_size - 65536))
    source = RecordSource(tmp_path / "records", "val")
    with pytest.raises(BadRecord, match=rf"{file.name}: record \d+ does not read"):
        [frame.image for scene in source for frame in scene.frames]


def test_damaged_scenes_are_named(source, tmp_path):
    build(tmp_path / "records")
    file = record_file(tmp_path / "records", "rig_scenes")
    file.write_bytes(file.read_bytes()[:100] + b"\0" * (file.stat().st_size - 100))
    with pytest.raises(BadRecord, match=rf"{file.name}"):
        list(RecordSource(tmp_path / "records", "val"))


def test_records_of_another_format_are_refused(source, tmp_path):
    build(tmp_path / "records")
    file = tmp_path / "records/build.json"
    content = json.loads(file.read_text())
    content["asked"]["format"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(
        BadRecord,
        match="records of format 1, this program reads 3; delete it and build it again: rm -r .* && rig3r build-data",
    ):
        RecordSource(tmp_path / "records", "val")


def test_records_of_format_2_are_refused_with_the_commands_that_make_them_anew(source, tmp_path, monkeypatch):
    """A folder as it was written before cameras had lenses."""

    def without_lens(fields):
        return {key: value for key, value in fields.items() if key not in ("camera_lens", "camera_distortion")}

    features, example = records.scene_features, records.scene_to_example
    with monkeypatch.context() as before:
        before.setattr(records, "FORMAT_VERSION", 2)
        before.setattr(records, "scene_features", lambda: tfds.features.FeaturesDict(without_lens(features())))
        before.setattr(records, "scene_to_example", lambda *arguments: without_lens(example(*arguments)))
        build(tmp_path / "old records", size=2)
        assert "camera_lens" not in RecordSource(tmp_path / "old records", "val")._scenes._features
    commands = (
        f"rm -r '{tmp_path}/old records' && rig3r build-data made --root '' --out '{tmp_path}/old records' size=2"
    )
    with pytest.raises(BadRecord, match=f"format 2, this program reads 3; delete it and build it again: {commands}"):
        RecordSource(tmp_path / "old records", "val")
    with pytest.raises(ValueError, match="format: 2 there, 3 asked.*delete it first"):
        build(tmp_path / "old records", size=2)


def test_folder_without_records_is_named(tmp_path):
    with pytest.raises(BadRecord, match="holds no records"):
        RecordSource(tmp_path, "train")
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(BadRecord, match="build.json: does not read"):
        RecordSource(tmp_path, "train")


def test_command_builds_with_a_bar_and_without_tensorflow(tmp_path):
    code = (
        "import sys, types; import tests.data.build_test as t; from rig3r_jax.data.build import SOURCES, build_data; "
        "from rig3r_jax.data.record_source import RecordSource; "
        "SOURCES['made'] = t.make_source({'train': t.loaders(0, 1)}); "
        f"print(build_data('made', '', {str(tmp_path / 'records')!r}, ['size=3'])); "
        f"assert len(RecordSource({str(tmp_path / 'records')!r}, 'train')[1].frames) == 6; "
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "scenes per split: train 2" in done.stdout and "2/2" in done.stderr and "scene/s" in done.stderr
