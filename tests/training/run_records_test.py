"""Where the records of a mixture lie: one folder for equal options, built once."""

import json
import shlex

import pytest

from rig3r_jax import cli
from rig3r_jax.configs import base
from rig3r_jax.data import records as record_fields
from rig3r_jax.data.build import Share
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.source import bad_scene
from rig3r_jax.data.sources import make_source
from rig3r_jax.training.checks import mixture_problems
from rig3r_jax.training.records import _folder_of, build_ahead, build_mixture, ready_entries
from tests.data.made_source import loaders
from tests.data.made_source import make_source as make_fake_source

FORMAT = record_fields.FORMAT_VERSION


def test_folder_is_told_by_root_and_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {
        _folder_of(make_source("ddad", root, options), "ddad", tmp_path)[1].name
        for root in ("data", str(tmp_path / "data"), "./data")
        for options in ({}, {"window": 16}, {"front": "CAMERA_01", "cameras": ()})
    }
    assert len(names) == 1 and names.pop().startswith("ddad-")
    others = [("data", {"window": 8}), ("data", {"window": 9}), ("data2", {}), ("data", {"cameras": ["CAMERA_01"]})]
    assert len({_folder_of(make_source("ddad", *other), "ddad", tmp_path)[1] for other in [("data", {}), *others]}) == 5


def test_a_new_option_keeps_the_records_and_a_new_default_builds_others(tmp_path, monkeypatch):
    fake = make_fake_source(monkeypatch, {"train": loaders(0)})
    config = base.get_config()
    config.data.mixture = [base.dataset("made")]
    ((_, old),) = build_mixture(config, tmp_path, progress=False)
    content = json.loads((old.path / "build.json").read_text())
    assert content["asked"]["options"].pop("size") == 1
    (old.path / "build.json").write_text(json.dumps(content))  # as before the source had the option
    ((_, again),) = build_mixture(config, tmp_path, progress=False)
    assert again.reused and again.path == old.path and fake.reads == 1
    ((_, old),) = build_mixture(config, tmp_path / "more", progress=False)
    monkeypatch.setattr(fake.__dataclass_fields__["size"], "default", 2)
    monkeypatch.setattr(fake.__init__, "__defaults__", ("", 2))
    config.data.mixture = [base.dataset("made")]
    ((entry, new),) = build_mixture(config, tmp_path / "more", progress=False)
    assert entry.options.size == 2 and not new.reused and new.path != old.path
    config.data.mixture = [base.dataset("made", size=1)]
    ((_, again),) = build_mixture(config, tmp_path / "more", progress=False)
    assert again.reused and again.path == old.path


@pytest.mark.parametrize("part", ["format", "source"])
def test_records_of_another_version_are_built_anew_beside_the_old_which_are_named(
    tmp_path, monkeypatch, caplog, own_warnings, part
):
    fake = make_fake_source(monkeypatch, {"train": loaders(0)})
    config = base.get_config()
    config.data.mixture = [base.dataset("made")]
    ((_, old),) = build_mixture(config, tmp_path, progress=False)
    damaged = tmp_path / "made-damaged"
    damaged.mkdir()
    (damaged / "build.json").write_text("{")
    assert not own_warnings()
    if part == "format":
        monkeypatch.setattr(record_fields, "FORMAT_VERSION", FORMAT + 1)
        versions = (f"format {FORMAT}, version 1", f"format {FORMAT + 1}, version 1")
    else:
        fake.VERSION = 2
        versions = (f"format {FORMAT}, version 1", f"format {FORMAT}, version 2")
    ((_, new),) = build_mixture(config, tmp_path, progress=False)
    assert not new.reused and new.path != old.path and old.path.is_dir()
    (warning,) = own_warnings()
    assert warning == (
        f"{old.path}: is not read, it holds records of {versions[0]} of the source; this program reads {versions[1]} "
        f"of the source and builds anew, in {new.path}; to delete the old ones: rm -r {old.path}"
    )
    caplog.clear()
    assert build_mixture(config, tmp_path, progress=False)[0][1].reused and not own_warnings()


def test_mixture_is_built_once_by_entries_with_weight(tmp_path, monkeypatch):
    fake = make_fake_source(monkeypatch, {"train": loaders(0)})
    config = base.get_config()
    config.data.mixture = [base.dataset("made"), base.dataset("tum", weight=0.0), base.dataset("made", size=2)]
    built = build_mixture(config, tmp_path, progress=False)
    assert [entry.options.size for entry, _ in built] == [1, 2] and fake.reads == 2
    assert {report.path for _, report in built} == set(tmp_path.iterdir())
    assert all(report.reused for _, report in build_mixture(config, tmp_path, progress=False)) and fake.reads == 2


def test_an_evaluation_finds_records_and_builds_none(tmp_path, monkeypatch):
    fake = make_fake_source(monkeypatch, {"train": loaders(0)})
    config = base.get_config()
    config.data.mixture = [base.dataset("made", size=2)]
    with pytest.raises(ValueError) as caught:
        build_mixture(config, tmp_path / "recs", progress=False, build=False)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'recs'}: holds no records of made") and "--records FOLDER" in message
    assert fake.reads == 0 and not (tmp_path / "recs").exists()
    command = shlex.split(message.partition("to build them: ")[2])
    assert command[-1] == "size=2"
    assert cli.main(command[1:]) == 0  # which makes what was missing
    ((_, report),) = build_mixture(config, tmp_path / "recs", progress=False, build=False)
    assert report.reused and fake.reads == 1


def test_ready_records_want_no_raw_data(tmp_path, monkeypatch):
    fake = make_fake_source(monkeypatch, {"train": loaders(0)})
    fake.needs_root = True
    raw, config = tmp_path / "raw", base.get_config()
    raw.mkdir()
    config.data.mixture, config.data.records = [base.dataset("made", root=str(raw))], str(tmp_path / "recs")
    assert ready_entries(config, tmp_path / "recs") == frozenset()
    ((_, built),) = build_mixture(config, tmp_path / "recs", progress=False)
    raw.rmdir()
    (problem,) = mixture_problems(config)
    assert "which is no folder" in problem and "--config.data.records=FOLDER" in problem
    ready = ready_entries(config, tmp_path / "recs")
    assert ready == {0} and list(mixture_problems(config, ready)) == []
    assert "reused" in build_ahead(config)
    config.data.mixture[0].root = ""  # nowhere at all: the records tell what they were built from
    assert ready_entries(config, tmp_path / "recs") == {0}
    ((_, again),) = build_mixture(config, tmp_path / "recs", progress=False)
    assert again.reused and again.path == built.path and fake.reads == 1
    config.data.mixture[0].options.size = 5
    assert ready_entries(config, tmp_path / "recs") == frozenset()
    config.data.mixture[0].name = "nothing"
    assert ready_entries(config, tmp_path / "recs") == frozenset()


def test_share_of_bad_scenes_is_an_option_of_the_run(tmp_path, monkeypatch):
    make_fake_source(monkeypatch, {"train": [*loaders(0), bad_scene("scene_1", "no good")]})
    config = base.get_config()
    config.data.mixture = [base.dataset("made")]
    with pytest.raises(BadRecord, match="1 of 2 scenes are bad"):
        build_mixture(config, tmp_path, progress=False)
    config.data.max_bad_fraction = 0.5
    ((_, report),) = build_mixture(config, tmp_path, progress=False)
    assert report.splits == {"train": 1}
    config.data.max_bad_fraction = 1.5
    assert "data.max_bad_fraction is 1.5; it must be in [0, 1]" in list(mixture_problems(config))


def test_data_sets_without_a_root_are_named_or_left_out(tmp_path, monkeypatch):
    make_fake_source(monkeypatch, {"train": loaders(0)})
    config = base.get_config()
    config.data.mixture = [
        base.dataset("ddad"),
        base.dataset("made"),
        base.dataset("tum"),
        base.dataset("tum", weight=0.0),
    ]
    problems = list(mixture_problems(config))
    assert problems == [
        "data.mixture[0] (ddad) has no root, the folder of its raw data: --config.data.mixture[0].root=FOLDER; "
        "--config.data.skip_missing=True goes without all data sets that have none",
        "data.mixture[2] (tum) has no root, the folder of its raw data: --config.data.mixture[2].root=FOLDER",
    ]
    config.data.skip_missing = True
    assert not list(mixture_problems(config))
    assert [entry.name for entry, _ in build_mixture(config, tmp_path, progress=False)] == ["made"]
    config.data.mixture[2].root = str(tmp_path / "nowhere")  # is set, and wrong
    assert [problem.partition(",")[0] for problem in mixture_problems(config)] == [
        f"data.mixture[2].root is '{tmp_path / 'nowhere'}'"
    ]
    config.data.mixture = [base.dataset("ddad"), base.dataset("tum")]
    assert list(mixture_problems(config)) == [
        "data.skip_missing leaves out all data sets, since none has a root: ddad, tum; give one its root"
    ]
    config.data.build_workers = -1
    assert "data.build_workers is -1; it must be at least 1" in "".join(mixture_problems(config))


def test_records_of_a_run_are_built_in_shards(tmp_path, monkeypatch, capsys):
    make_fake_source(monkeypatch, {"train": loaders(0, 1, 2)})
    config = base.get_config()
    config.data.mixture, config.data.records = [base.dataset("made")], str(tmp_path / "recs")
    assert "not whole yet, 2 scenes missing" in build_ahead(config, Share(shard=0, shards=2))
    assert ready_entries(config, tmp_path / "recs") == frozenset()
    assert "scenes per split: train 3" in build_ahead(config, Share(shard=1, shards=2))
    assert ready_entries(config, tmp_path / "recs") == {0} and "reused" in build_ahead(config)
