"""Records on disk: whole or absent, reused only for the same options, damage and bad scenes named."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.data import sources
from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.build import build_records
from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord, Scene
from tests.data.made_source import loaders, make_source, scene_of
from tests.data.records_test import change_camera, change_frame
from tests.data.scenes import make_scene


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
    options = r"options: \{'size': 2, 'rectify': False\} there, \{'size': 3, 'rectify': False\} asked"
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


def test_failed_build_leaves_no_records_and_goes_on_where_it_was(monkeypatch, tmp_path):
    def crash() -> Scene:
        raise RuntimeError("a bug")

    loaded = []
    of_split = [(name, lambda load=load: loaded.append(1) or load()) for name, load in loaders(0, 1, 2)]
    make_source(monkeypatch, {"train": [*of_split[:2], ("scene_2", crash)]})
    (tmp_path / "records").mkdir()  # an empty folder may be filled
    with pytest.raises(RuntimeError, match="a bug"):
        build(tmp_path / "records")
    assert not any((tmp_path / "records").iterdir()) and len(loaded) == 2
    make_source(monkeypatch, {"train": of_split})
    assert build(tmp_path / "records").splits == {"train": 3} and len(loaded) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


def test_build_of_which_nothing_is_whole_leaves_nothing(monkeypatch, tmp_path):
    def crash() -> Scene:
        raise RuntimeError("a bug")

    make_source(monkeypatch, {"train": [("scene_1", crash), *loaders(0)]})
    with pytest.raises(RuntimeError, match="a bug"):
        build(tmp_path / "records")
    assert not any(tmp_path.iterdir())


def test_bad_scenes_are_skipped_counted_and_named(monkeypatch, tmp_path):
    def missing() -> Scene:
        raise BadRecord("/data/7.jpg: cannot be read (No such file or directory); restore the file")

    corrupt = [("corrupt", lambda: change_camera(scene_of(3), 1, size=(0, 0)))]
    bad = [("missing", missing), *corrupt, *loaders(5)]
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
    assert {path.name for path in tmp_path.iterdir()} <= {".records.building"}
    for number in range(bad):  # repaired
        loaders_of_split["train"][good + number] = loaders(good + number)[0]
    if good + bad < 20:
        assert build(tmp_path / "records").splits == {"train": good + bad}


BAD_FRAMES = {
    "image": dict(image=b"\xff\xd8"),
    "pose": dict(world_from_camera=np.full((4, 4), -np.inf)),
    "depth": dict(depth=b"D"),
    "time": dict(time=float("nan")),
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_bad_frame_costs_itself_and_is_counted_and_named(monkeypatch, tmp_path, kind):
    bad = [("scene_9", lambda: change_frame(scene_of(9), 1, **BAD_FRAMES[kind]))]
    make_source(monkeypatch, {"train": [*loaders(0, 1), *bad]})
    out = tmp_path / "records"
    with pytest.raises(
        BadRecord, match=rf"1 of 18 frames are bad, allowed are 0 .*{kind} 1:\n  train/scene_9, camera_1"
    ):
        build_records("made", sources.make_source("made"), out, max_bad_fraction=0.05, progress=False)
    report = build(out)
    assert report.splits == {"train": 3} and report.frames == 17 and not report.skipped
    ((scene, frame),) = report.left_out
    assert (scene, frame.frame, frame.kind) == ("train/scene_9", "camera_1, step 0", kind)
    assert f"1 of 18 frames left out ({kind} 1)" in report.summary()
    again = build(out)
    assert again.reused and again.left_out == report.left_out and again.frames == 17
    assert [(f.step, f.camera) for f in RecordSource(out, "train")[2].frames] == [
        (0, 0),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
    ]


def test_worst_reasons_are_named_with_their_counts(monkeypatch, tmp_path):
    def bad_scene(number):
        scene = change_frame(scene_of(number), 0, image=b"")
        return change_frame(scene, 1, world_from_camera=np.zeros((4, 4))) if number < 4 else scene

    make_source(monkeypatch, {"train": [(f"scene_{n}", lambda n=n: bad_scene(n)) for n in range(30)]})
    with pytest.raises(BadRecord) as error:
        build(tmp_path / "records")
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "source 'made': 34 of 180 frames are bad, allowed are 18 (max_bad_fraction=0.1); "
        "of the frames image 30, pose 4:"
    )
    assert "image of 0 bytes" in lines[1] and "no rigid transform" in lines[2]
    assert lines[-2] == "  and 28 more" and "max_bad_fraction=0.5" in lines[-1]


def test_scene_with_no_good_frame_is_a_bad_scene(monkeypatch, tmp_path):
    def blank():
        return dataclasses.replace(
            scene_of(1), frames=tuple(dataclasses.replace(f, image=b"") for f in scene_of(1).frames)
        )

    make_source(monkeypatch, {"train": [*loaders(*range(2, 12)), ("scene_1", blank)]})
    report = build(tmp_path / "records")
    assert [name for name, _ in report.skipped] == ["train/scene_1"]
    assert "none of its 6 frames can be used; the first: scene scene_1, camera camera_0" in report.skipped[0][1]


@pytest.mark.parametrize(
    "times, kept",
    [
        ([0, 1, 1, 2], [0, 1, 3]),  # repeated: the first stays
        ([0, 9, 1, 2], [0, 2, 3]),  # one jump costs one frame, not all that follow
        ([0, 1, float("nan"), 2], [0, 1, 3]),
        ([float("inf"), 0, 1, 2], [1, 2, 3]),
        ([3, 2, 1, 0], [3]),
    ],
)
def test_fewest_frames_are_left_out_for_times_to_ascend(times, kept):
    scene = make_scene(steps=4, cameras=1, size=(8, 8))
    for number, time in enumerate(times):
        scene = change_frame(scene, number, time=float(time))
    assert [frame.step for frame in without_bad_frames(scene).frames] == kept


def test_scenes_without_depth_are_written_and_counted(monkeypatch, tmp_path):
    def without_depth(number):
        scene = scene_of(number)
        frames = tuple(dataclasses.replace(frame, depth=encode_depth(NO_POINTS)) for frame in scene.frames)
        return dataclasses.replace(scene, frames=frames)

    make_source(monkeypatch, {"train": [*loaders(0), ("scene_1", lambda: without_depth(1))]})
    report = build(tmp_path / "records")
    assert report.splits == {"train": 2} and report.without_depth == 1
    assert "1 scenes have no depth: their poses and rays are trained on, no points" in report.summary()


def test_share_of_bad_ones_is_an_option_of_the_command(monkeypatch, tmp_path, capsys):
    make_source(monkeypatch, {"train": [*loaders(0), ("bad", lambda: change_camera(scene_of(1), 0, size=(0, 0)))]})
    command = ["build-data", "made", "--out", str(tmp_path / "records")]
    assert cli.main(command) == 2 and "1 of 2 scenes are bad" in capsys.readouterr().err
    assert cli.main([*command, "max_bad_fraction=lots"]) == 2
    assert "max_bad_fraction=lots must be a number in [0, 1]" in capsys.readouterr().err
    assert cli.main([*command, "max_bad_fraction=2"]) == 2
    assert "max_bad_fraction=2.0 must be in [0, 1]" in capsys.readouterr().err
    assert cli.main([*command, "max_bad_fraction=0.5"]) == 0
    assert "train 1" in capsys.readouterr().out


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
    with pytest.raises(ValueError, match=r"'size': 1, .* there, .*'size': 2, .* asked"):
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
