"""Folders of records as sources of scenes: random access, and damage that is named."""

import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow_datasets as tfds

from rig3r_jax.data import records, sources
from rig3r_jax.data.build import build_records
from rig3r_jax.data.build_report import read_quarantine
from rig3r_jax.data.record_source import RecordSource, read_build
from rig3r_jax.data.scene import BadRecord
from tests.data.made_source import loaders, make_source, scene_of
from tests.data.records_test import assert_same


@pytest.fixture(scope="module")
def source():
    with pytest.MonkeyPatch.context() as registered:
        yield make_source(registered, {"train": loaders(*range(70)), "val": loaders(70, 71)})


def build(out, **options):
    return build_records("made", sources.make_source("made", "", options), out, progress=False)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A folder of records that no test changes."""
    folder = tmp_path_factory.mktemp("whole") / "records"
    report = build(folder)
    assert report.splits == {"train": 70, "val": 2} and not report.skipped and not report.reused
    return folder


@pytest.fixture
def built(whole, tmp_path):
    """A copy of it, which a test may damage."""
    return shutil.copytree(whole, tmp_path / "records")


def test_scenes_come_back_in_order(built, tmp_path):
    train = RecordSource(tmp_path / "records", "train")
    assert len(train) == 70 and len(list(train)) == 70
    for number in (0, 1, 63, 64, 69):  # 64 begins the second file
        assert_same(scene_of(number), train[number])
    assert_same(scene_of(69), train[-1])
    with pytest.raises(IndexError, match="70 of 70"):
        train[70]


def test_records_are_a_tfds_data_source(built, tmp_path):
    scenes, frames = (
        tfds.data_source(name, split="val", data_dir=tmp_path / "records") for name in ("rig_scenes", "rig_frames")
    )
    assert_same(scene_of(71), records.example_to_scene(scenes[1], frames.__getitem__))


def test_source_is_read_by_threads_and_pickles(built, tmp_path):
    train = pickle.loads(pickle.dumps(RecordSource(tmp_path / "records", "train")))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda n: train[n % 70].name, range(280)))
    assert names == [f"scene_{n % 70}" for n in range(280)]


def record_file(folder, part="rig_frames"):
    return next(folder.glob(f"{part}/*/*val*array_record*"))


@pytest.mark.parametrize("part", ["rig_scenes", "rig_frames"])
@pytest.mark.parametrize("keep", [0, 1000, -1000])
def test_truncated_file_is_named(built, tmp_path, keep, part):
    file = record_file(tmp_path / "records", part)
    os.truncate(file, keep % file.stat().st_size)
    with pytest.raises(BadRecord, match=f"{file.name}: has .* was written with"):
        RecordSource(tmp_path / "records", "val")


def test_missing_file_is_named(built, tmp_path):
    file = record_file(tmp_path / "records")
    file.unlink()
    with pytest.raises(BadRecord, match=f"{file.name}: is missing"):
        RecordSource(tmp_path / "records", "val")


def test_damaged_file_is_named(built, tmp_path):
    file = record_file(tmp_path / "records")
    with open(file, "r+b") as handle:
        handle.seek(65536)
        handle.write(b"\0" * (file.stat().st_size - 65536))
    source = RecordSource(tmp_path / "records", "val")
    with pytest.raises(BadRecord, match=rf"{file.name}: record \d+ does not read"):
        [frame.image for scene in source for frame in scene.frames]


def test_damaged_scenes_are_named(built, tmp_path):
    file = record_file(tmp_path / "records", "rig_scenes")
    file.write_bytes(file.read_bytes()[:100] + b"\0" * (file.stat().st_size - 100))
    with pytest.raises(BadRecord, match=rf"{file.name}"):
        list(RecordSource(tmp_path / "records", "val"))


def test_records_of_another_format_are_refused(built, tmp_path):
    file = tmp_path / "records/build.json"
    content = json.loads(file.read_text())
    content["asked"] |= {"format": 1, "options": {"cameras": None, "size": 3}}  # None: all, before () was the word
    file.write_text(json.dumps(content))
    with pytest.raises(
        BadRecord,
        match=f"records of format 1, this program reads {records.FORMAT_VERSION}; delete it and build it again: "
        "rm -r .* && rig3r build-data made --root '' --out .*/records size=3$",
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
    formats = f"format 2, this program reads {records.FORMAT_VERSION}"
    commands = (
        f"rm -r '{tmp_path}/old records' && rig3r build-data made --root '' --out '{tmp_path}/old records' size=2"
    )
    with pytest.raises(BadRecord, match=f"{formats}; delete it and build it again: {commands}"):
        RecordSource(tmp_path / "old records", "val")
    with pytest.raises(BadRecord, match=f"{formats}; delete it and build it again: {commands}"):
        build(tmp_path / "old records", size=2)


def test_folder_without_records_is_named(tmp_path):
    with pytest.raises(BadRecord, match="holds no records"):
        RecordSource(tmp_path, "train")
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(BadRecord, match=f"build.json: is not JSON .*, or delete {tmp_path} and build it again"):
        RecordSource(tmp_path, "train")


@pytest.mark.parametrize(
    "changes, lack",
    [
        ({"asked": []}, "asked"),
        ({"splits": None, "bytes": ["a"]}, "splits, bytes"),
        ({"splits": {"train": "3"}}, "numbers of splits and bytes"),
        ({"asked": {"options": None}}, "asked.options"),
        ({"frames": "many"}, "frames"),
        ({"notes": 5}, "notes"),
        (None, "asked, splits, bytes"),
    ],
)
def test_a_build_that_is_none_is_named(tmp_path, changes, lack):
    build = {"asked": {}, "splits": {"train": 1}, "bytes": {}}
    (tmp_path / "build.json").write_text(json.dumps(build))
    assert read_build(tmp_path) == build
    (tmp_path / "build.json").write_text(json.dumps([build] if changes is None else build | changes))
    with pytest.raises(BadRecord, match=f"build.json: lacks {lack}; delete {tmp_path} and build it again"):
        read_build(tmp_path)


def test_a_build_that_does_not_say_its_lenses_is_named(built, tmp_path):
    file = tmp_path / "records" / "build.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lenses": {}}))
    with pytest.raises(BadRecord, match=f"build.json: lacks lenses of 'val'; delete {tmp_path / 'records'} and build"):
        RecordSource(tmp_path / "records", "val")


@pytest.mark.parametrize("content", [None, "{", "[1]", '[{"scene": "a"}]', "7"])
def test_a_quarantine_that_is_none_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "quarantine.json").write_text(content)
    with pytest.raises(BadRecord, match=f"quarantine.json: .*; restore the file, or delete {tmp_path} and build"):
        read_quarantine(tmp_path)
