"""The data of a run, before it trains."""

import collections
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from rig3r_jax.configs import base
from rig3r_jax.data.build import BuildReport
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream, make_loader
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.position import Position
from rig3r_jax.training.rig3r import data
from rig3r_jax.training.rig3r.data import check_max_scenes, check_splits
from rig3r_jax.training.rig3r.kept_quarantine import KeptQuarantine
from tests.data.scenes import make_scene


def _config(split, sets, enabled=True):
    return ConfigDict({"data": {"split": split}, "evaluation": {"enabled": enabled, "sets": sets}})


def test_splits_that_no_source_has_are_named(tmp_path):
    records = [(ConfigDict({"name": "a"}), BuildReport(tmp_path, {"train": 3, "val": 0}, [], False))]
    check_splits(_config("train", ("train",)), records)
    check_splits(_config("train", ("val",), enabled=False), records)
    with pytest.raises(ValueError, match="data.split: 'trian'; evaluation.sets: 'val'; they have train"):
        check_splits(_config("trian", ("val", "train")), records)


def test_sources_with_fewer_scenes_than_are_taken_of_each_are_named(tmp_path, own_warnings):
    few, many = (
        (ConfigDict({"name": name}), BuildReport(tmp_path, {"train": count}, [], False))
        for name, count in (("few", 3), ("many", 9))
    )
    config = ConfigDict({"data": {"split": "train", "max_scenes": 9}})
    check_max_scenes(config, [many])
    assert not own_warnings()
    check_max_scenes(config, [few, many])
    assert own_warnings() == ["data.max_scenes is 9; train has 3 of few, all of which are used"]
    with pytest.raises(ValueError, match="max_scenes is 9; train has 3 of few: take at most 3, or 0 for all"):
        check_max_scenes(config, [few])
    config.data.max_scenes = 0
    check_max_scenes(config, [few])


def test_scenes_that_are_trained_on_and_evaluated_are_named(tmp_path, monkeypatch):
    scenes = {("train", "a"): "xyz", ("val", "a"): "wxy", ("train", "b"): "w", ("test", "a"): "v", ("val", "b"): "u"}

    def source(path, split):
        return [SimpleNamespace(name=name) for name in scenes[split, path.name]]

    monkeypatch.setattr(data, "RecordSource", source)
    records = []
    for name in "ab":
        splits = {split: len(names) for (split, of), names in scenes.items() if of == name}
        records.append((ConfigDict({"name": name}), BuildReport(tmp_path / name, splits, [], False)))
    note = data.overlap_note(records, "train", "val")
    assert note.startswith("2 of 4 scenes of val are among those of train, which") and "(a/x, a/y)" in note
    assert data.overlap_note(records, "train", "test") == ""
    assert data.overlap_note(records, "train", "train").startswith("4 of 4") and "a/z, ...)" in data.overlap_note(
        records, "train", "train"
    )


def test_scenes_that_cannot_fill_a_sample_are_told_before_training(monkeypatch, tmp_path, own_warnings):
    scenes = {"train": [make_scene(0, steps=4), make_scene(1, steps=1)], "val": [make_scene(2, steps=1)]}
    monkeypatch.setattr(data, "RecordSource", lambda path, split: scenes[split])
    records = [(ConfigDict({"name": "a", "weight": 1.0}), BuildReport(tmp_path, {"train": 2, "val": 1}, [], False))]
    config = base.get_config()
    config.sampling.num_views, config.data.cache_gigabytes = 6, 0.0
    config.evaluation.sets = ("train",)
    data.check_views(config, records)
    assert own_warnings() == [
        "a, train: 1 of 2 scenes cannot fill 6 views and are left out: 1 of 1 steps x 3 cameras, such as scene_1"
    ]
    assert data.training_stream(config, records).num_records == 1
    config.evaluation.sets = ("val",)
    with pytest.raises(ValueError, match="^a, val: 1 of 1 scenes cannot fill 6 views.*\\n.*lower sampling.num_views"):
        data.check_views(config, records)


def test_position_counts_samples():
    assert Position(7, 16).after(8).to_json() == {"seed": 7, "next_sample": 24}


def test_counts_are_of_the_samples_that_were_taken():
    """Of every source, since they were last asked for; samples that were prepared ahead do not count."""
    scenes = [make_scene(seed, steps=3, cameras=2, size=(8, 8)) for seed in range(2)]
    sources = [("rigs", scenes, 3.0), ("single", scenes[:1], 1.0), ("rigs", scenes[1:], 1.0), ("rare", scenes, 1e-9)]
    stream = SampleStream(sources, PipelineOptions(num_views=2, image_size=8), 0)
    counted = data.CountedSamples(stream)
    loader = make_loader(counted, global_batch=8, process_index=1, process_count=2, num_threads=2, num_batches=6)
    expected = collections.Counter({"data/samples/rigs": 0, "data/samples/single": 0, "data/samples/rare": 0})
    assert counted.take_counts() == expected
    for number, _ in enumerate(loader):
        samples = range(8 * number + 4, 8 * number + 8)
        counted.count(samples)
        expected.update(f"data/samples/{sources[stream.sample_and_source(n)[1]][0]}" for n in samples)
        if number == 2:
            assert counted.take_counts() == expected and sum(expected.values()) == 12
            expected = collections.Counter(dict.fromkeys(expected, 0))
    assert counted.take_counts() == expected and sum(expected.values()) == 12


def test_a_quarantine_that_the_disk_does_not_take_is_written_later(tmp_path, own_warnings):
    options = PipelineOptions(num_views=2, image_size=32)
    quarantine = SampleStream([("made", [make_scene(0)], 1.0)], options, seed=0).quarantine
    quarantine._max_bad_fraction = 1.0
    quarantine.add("made", "scene 0", BadRecord("cut"))
    kept = KeptQuarantine(quarantine, tmp_path / "run", resumed=False)
    kept.save()
    kept.save()
    (message,) = own_warnings()
    assert message.startswith(f"{kept.path} is not up to date: ") and not kept.path.parent.exists()
    kept.path.parent.mkdir()
    kept.save()
    assert [row["count"] for row in read_json(kept.path)["records"]] == [1]
