"""Builds by many processes, in shards, cut short at any moment: always the same bytes, and nothing is done twice."""

import collections
import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rig3r_jax import cli
from rig3r_jax.data import build_finish, sources
from rig3r_jax.data.build import Share, build_records
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from tests.conftest import REPO
from tests.data.logged_source import Logged
from tests.data.made_source import loaders, make_source, scene_of


def build(source, out, share=Share(), **options):  # noqa: B008
    return build_records("logged", source, out, progress=False, share=share, **options)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path):
    return Logged(str(tmp_path), train=14, val=3, bad=(5,))


@pytest.fixture
def undisturbed(source, tmp_path):
    """Content of the folder that one process builds without a break."""
    build(source, tmp_path / "undisturbed")
    (tmp_path / "loads.txt").unlink()
    return contents(tmp_path / "undisturbed")


def test_processes_write_the_same_bytes_and_see_no_devices(source, undisturbed, tmp_path):
    report = build(source, tmp_path / "out", Share(workers=2))
    assert report.splits == {"train": 13, "val": 3}
    assert contents(tmp_path / "out") == undisturbed
    assert sorted(source.loads()) == sorted([f"train_{n}" for n in range(14)] + [f"val_{n}" for n in range(3)])
    assert all(line.split()[2:] == ["cpu", "cpu"] and int(line.split()[1]) != os.getpid() for line in source.log())
    assert not (tmp_path / ".out.building").exists()


def test_shards_in_any_order_make_the_records_of_one_build(source, undisturbed, tmp_path):
    out = tmp_path / "out"
    first = build(source, out, Share(shard=2, shards=3))
    assert first.unbuilt == 11 and not out.exists() and "not whole yet, 11 scenes missing" in first.summary()
    with pytest.raises(ValueError, match="11 of 17 scenes are not built yet, train_0 the first; run the shards"):
        build(source, out, Share(merge=True))
    build(source, out, Share(shard=0, shards=3))
    frames = {path.stat().st_ino for path in (tmp_path / ".out.building").glob("*.frames")}
    last = build(source, out, Share(shard=1, shards=3))
    assert last.unbuilt == 0 and last.skipped == [("train/train_5", "5.jpg: no good")]
    assert contents(out) == undisturbed and len(source.loads()) == len(set(source.loads())) == 17
    assert frames < {path.stat().st_ino for path in out.glob("rig_frames/*/*array_record*")}  # linked, not copied
    assert build(source, out, Share(shard=1, shards=3)).reused


def test_two_shards_merged_give_the_batches_of_one_build(source, undisturbed, tmp_path):
    for shard in (0, 1):
        build(source, tmp_path / "out", Share(shard=shard, shards=2))
    options = PipelineOptions(num_views=4, image_size=8)
    streams = [
        SampleStream([("logged", RecordSource(tmp_path / name, "train"), 1.0)], options, seed=3)
        for name in ("undisturbed", "out")
    ]
    for number in range(20):
        one, two = (stream[number] for stream in streams)
        np.testing.assert_array_equal(one.views.images, two.views.images)
        np.testing.assert_array_equal(one.targets.depth, two.targets.depth)
        np.testing.assert_array_equal(one.targets.reference_from_camera, two.targets.reference_from_camera)
    data = tfds.data_source("rig_frames", split="train", data_dir=tmp_path / "out")
    assert len(data) == 13 * 4 and data[51]["image"]


def test_shards_may_outnumber_the_scenes(tmp_path):
    source = Logged(str(tmp_path), train=1, val=0)
    for shard in range(3):
        report = build(source, tmp_path / "out", Share(shard=shard, shards=3))
    assert report.splits == {"train": 1, "val": 0} and source.loads() == ["train_0"]


KILLED = """
import sys
from rig3r_jax.data.build import Share, build_records
from tests.data.logged_source import Logged
if __name__ == "__main__":
    source = Logged(sys.argv[1], train=40, val=3, bad=(1,))
    build_records("logged", source, sys.argv[2], share=Share(workers=int(sys.argv[3])), progress=False)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_build_goes_on_where_it_was_killed(tmp_path, workers):
    """SIGKILL, to the first process alone: its workers end too, what they had written stays."""
    source, out = Logged(str(tmp_path), train=40, val=3, bad=(1,)), tmp_path / "out"
    (tmp_path / "slow").touch()
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path), str(out), str(workers)]
    process = subprocess.Popen(command, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)})
    folder, until = tmp_path / ".out.building", time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 5 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "slow").unlink()
    builders = {int(line.split()[1]) for line in source.log()}
    assert len(builders) == workers
    while any(map(is_running, builders)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_running, builders)) and not out.exists()

    done = {path.stem: path.with_suffix(".frames") for path in folder.glob("train-*.json")}
    kept = {path.stat().st_ino for path in done.values() if path.exists()}
    assert len(kept) >= 3
    loaded = source.loads()
    report = build(source, out)
    again = collections.Counter(source.loads()[len(loaded) :])
    assert max(again.values()) == 1 and not set(again) & {f"train_{int(stem[-7:])}" for stem in done}
    assert report.skipped == [("train/train_1", "1.jpg: no good")]  # though it was found before the kill
    assert kept <= {path.stat().st_ino for path in out.glob("rig_frames/*/*array_record*")}
    build(source, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert not folder.exists()


def is_running(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_cut_short_while_the_records_are_put_together(source, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(build_finish.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        build(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    loads = source.loads()
    build(source, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed and source.loads() == loads


def test_file_system_without_links(source, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(build_finish.os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links")))
    build(source, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed


def test_group_whose_file_is_cut_is_built_again(source, undisturbed, tmp_path):
    build(source, tmp_path / "out", Share(shard=0, shards=2))
    os.truncate(next((tmp_path / ".out.building").glob("*.frames")), 100)
    loads = len(source.loads())
    build(source, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed and len(source.loads()) == 17 + 1 and loads == 8


def test_another_process_is_first(source, undisturbed, tmp_path, monkeypatch):
    out, rename = tmp_path / "out", os.rename

    def late(*paths):
        shutil.copytree(tmp_path / "undisturbed", out)
        rename(*paths)

    monkeypatch.setattr(build_finish.os, "rename", late)
    report = build(source, out)
    assert report.reused and report.splits == {"train": 13, "val": 3}


def test_unfinished_build_of_other_options_is_left_alone(source, tmp_path):
    build(source, tmp_path / "out", Share(shard=0, shards=2))
    other = Logged(str(tmp_path), train=15, val=3, bad=(5,))
    with pytest.raises(ValueError, match=r"holds an unfinished build of other records .*'train': 14.*rm -r .*building"):
        build(other, tmp_path / "out")


def test_a_thousand_scenes_are_built_one_at_a_time(monkeypatch, tmp_path):
    alive, most = collections.Counter(), []

    def load(number):
        most.append(alive.total())
        scene = dataclasses.replace(small, name=f"scene_{number}")
        alive[number] = 1
        weakref.finalize(scene, alive.pop, number)
        return scene

    small = dataclasses.replace(scene_of(0), frames=scene_of(0).frames[:1])
    made = make_source(monkeypatch, {"train": [(f"scene_{n}", functools.partial(load, n)) for n in range(1000)]})
    report = build_records("made", made(), tmp_path / "out", progress=False)
    assert report.splits == {"train": 1000} and len(most) == 1000 and max(most) == 0
    assert len(list((tmp_path / "out").glob("rig_frames/*/*array_record*"))) == 250


def test_full_disk_is_told_by_the_first_scenes(source, undisturbed, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
        with pytest.raises(ValueError, match="first 3 scenes take .* so that the 14 to come take about 0.00.* GB; 0"):
            build(source, tmp_path / "out")
    build(source, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed and len(source.loads()) == 17


def test_crash_in_a_worker_is_raised_and_the_rest_stays(tmp_path):
    source = Logged(str(tmp_path), train=8, val=0, crash_at=6, bad=(2,))
    with pytest.raises(RuntimeError, match="a bug"):
        build(source, tmp_path / "out", Share(workers=2))
    (tmp_path / "repaired").touch()
    assert build(source, tmp_path / "out", max_bad_fraction=0.2).splits == {"train": 7, "val": 0}
    counts = collections.Counter(source.loads())
    assert set(counts) == {f"train_{n}" for n in range(8)} and counts["train_0"] == 1


def test_refused_build_reads_bad_scenes_alone_again(tmp_path):
    source = Logged(str(tmp_path), train=8, val=0, bad=(2,))
    with pytest.raises(BadRecord, match="1 of 8 scenes are bad"):
        build(source, tmp_path / "out")
    assert build(source, tmp_path / "out", max_bad_fraction=0.2).splits == {"train": 7, "val": 0}
    assert source.loads() == [*(f"train_{n}" for n in range(8)), "train_2"]


def test_command_takes_workers_and_shards(tmp_path, capsys):
    words = ["build-data", "procedural", "--out", str(tmp_path / "out"), "train_worlds=3", "test_worlds=1", "steps=2"]
    words += ["image_size=16", "max_cameras=2", "workers=1"]
    assert cli.main([*words, "--shard", "0/2"]) == 0
    assert "not whole yet, 4 scenes missing" in capsys.readouterr().out
    assert cli.main([*words, "--merge"]) == 2
    assert "4 of 5 scenes are not built yet, train-000001 the first" in capsys.readouterr().err
    assert cli.main([*words, "--shard=1/2"]) == 0
    assert "out: scenes per split: train 3, same_rigs 1, unseen_rigs 1" in capsys.readouterr().out
    assert cli.main([*words, "--merge"]) == 0 and "reused" in capsys.readouterr().out
    for wrong in ("2/2", "-1/2", "1", "a/b", "1/0"):
        assert cli.main([*words, f"--shard={wrong}"]) == 2
        assert f"{wrong!r} must be I/N with I from 0 to N-1" in capsys.readouterr().err
    assert cli.main([*words, "--merge", "--shard=0/2"]) == 2
    assert "--merge and --shard: give one of the two" in capsys.readouterr().err
    assert cli.main([*words[:-1], "workers=-1"]) == 2 and "workers=-1 must be at least 1" in capsys.readouterr().err
    assert cli.main([*words[:-1], "workers=all"]) == 2
    assert "workers=all must be a whole number" in capsys.readouterr().err


def test_source_that_does_not_pickle_is_named(monkeypatch, tmp_path):
    make_source(monkeypatch, {"train": loaders(0, 1)})
    with pytest.raises(ValueError, match="workers=2: the source cannot be sent to processes .*; take workers=1"):
        build_records("made", sources.make_source("made"), tmp_path / "out", progress=False, share=Share(workers=2))
    assert not any(tmp_path.iterdir())
