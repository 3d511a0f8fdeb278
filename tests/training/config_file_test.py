"""config.json of a workdir: it comes back as it was, what it lacks is filled in, what cannot be is one line."""

import json
from pathlib import Path

import pytest

from rig3r_jax.training.config import config_differences, load_config, save_config
from rig3r_jax.training.paths import make_absolute
from rig3r_jax.training.rig3r import task as rig3r_task
from rig3r_jax.training.task import validate


def test_config_survives_its_file(config, tmp_path):
    demo = config("demo")
    save_config(demo, tmp_path / "config.json")
    loaded = load_config(tmp_path / "config.json")
    assert loaded.data.mixture[0].options.train_worlds == demo.data.mixture[0].options.train_worlds
    assert loaded.sampling.to_dict().keys() == demo.sampling.to_dict().keys()
    validate(loaded, rig3r_task, devices=1)
    assert config_differences(demo, tmp_path) == []
    demo.train.log_every = 7
    assert config_differences(demo, tmp_path) == []
    demo.sampling.max_pixels += 1  # another default by now: told, not refused
    (line,) = config_differences(demo, tmp_path)
    assert "sampling.max_pixels was" in line
    demo.sampling.max_pixels -= 1
    demo.loss.alpha = 0.5
    (line,) = config_differences(demo, tmp_path)
    assert line.endswith("loss.alpha was 0.2 and is now 0.5")
    demo.model.position = "rope"
    with pytest.raises(ValueError, match="another model: model.position was 'sincos' and is now 'rope'"):
        config_differences(demo, tmp_path)
    with pytest.raises(ValueError, match="not the workdir of a run"):
        load_config(tmp_path / "other.json")


def test_config_older_than_its_keys_has_their_defaults(config, tmp_path):
    """A config.json as it was when only the options that were given, and fewer keys of sampling, were in it."""
    demo = config("demo")
    save_config(demo, tmp_path / "config.json")
    old = json.loads((tmp_path / "config.json").read_text())
    options = old["data"]["mixture"][0]["options"]
    for key in ("seed", "interval", "jpeg_quality", "image_format", "test_worlds"):
        del options[key]
    for key in ("min_stride", "max_pixels", "min_draws", "ordered", "blur_sigma_range"):
        del old["sampling"][key]
    for key in ("same_time_seconds", "icp"):
        del old["evaluation"][key]
    (tmp_path / "config.json").write_text(json.dumps(old))
    loaded = load_config(tmp_path / "config.json")
    assert loaded.sampling.to_dict() == demo.sampling.to_dict()
    assert loaded.evaluation.to_dict() == demo.evaluation.to_dict()
    assert loaded.data.mixture[0].to_dict() == demo.data.mixture[0].to_dict() | {
        "options": demo.data.mixture[0].options.to_dict() | {"test_worlds": 128}
    }
    (line,) = config_differences(demo, tmp_path)
    assert line.endswith("data.mixture[0].options.test_worlds was 128 and is now 200")


def _edited(config, path, **changes):
    """A config.json in which "section.key" has another value, or is absent: None."""
    save_config(config, path)
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *sections, key = name.split(".")
        node = content
        for section in sections:
            node = node[int(section) if isinstance(node, list) else section]
        if value is None:
            del node[key]
        else:
            node[key] = value
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "is no config of a run: it has no section"),
        ("[]", "holds a list, not the config of a run"),
        ("null", "holds a NoneType"),
        ('{"architectures": ["Dinov2Model"], "model_type": "dinov2"}', "has no section data, evaluation, loss"),
        ('{"task": "text-generation"}', "task is 'text-generation'; it must be one of rig3r, uncertainty"),
        ('{"task": ["rig3r"]}', "task is ['rig3r']"),
        ('{"model": 3, "data": []}', "it has no section data, evaluation, loss"),
    ],
)
def test_a_foreign_config_json_is_one_line(tmp_path, text, said):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and said in message and "restore the file" in message
    assert len(message.splitlines()) == 1


def test_keys_that_no_flag_could_name_are_named(config, tmp_path):
    path = _edited(config("demo"), tmp_path / "config.json")
    content = json.loads(path.read_text())
    content["train"]["a.b"] = content["data"]["mixture"][0]["options"][""] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"config.json: .*data.mixture\[0\].options has the key ''.*train has the key 'a.b'"
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.steps": "many"}, "train.steps is 'many'; it must be a whole number"),
        ({"train.steps": True}, "train.steps is True; it must be a whole number"),
        ({"optimizer.learning_rate": []}, "optimizer.learning_rate is []; it must be a number"),
        ({"evaluation.sets": "train"}, "evaluation.sets is 'train'; it must be a list"),
        ({"model.patch": None}, "model.patch is missing"),
        ({"model.pacth": 16}, "model.pacth is no key of this program; did you mean patch?"),
        ({"sampling.num_view": 4}, "sampling.num_view is no key of this program; did you mean num_views?"),
        ({"data.mixture": {}}, "data.mixture is {}; it must be a list of data sets"),
        ({"data.mixture.0.root": None}, "data.mixture[0].root is None; it must be a text"),
        ({"data.mixture.0.options.steps": "x"}, "data.mixture[0].options of procedural: steps='x' must be a whole"),
        ({"data.mixture.0.options.stepz": 3}, "has no option stepz; did you mean steps?"),
    ],
)
def test_a_changed_config_json_names_file_and_key(config, tmp_path, changes, said):
    path = _edited(config("demo"), tmp_path / "config.json", **changes)
    with pytest.raises(ValueError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_keys_that_a_config_json_lacks_have_their_defaults_and_are_named(config, tmp_path, own_warnings):
    demo = config("demo")
    demo.model.decoder_width = 64  # a size of the model that no config has by itself
    lacking = {"train.batch_size": None, "train.log_every": None, "sampling.hue": None, "seed": None}
    path = _edited(demo, tmp_path / "config.json", **lacking, **{"data.mine": 3})
    loaded = load_config(path)
    assert (loaded.train.batch_size, loaded.train.log_every, loaded.seed) == (128, 50, 0)
    assert (loaded.model.decoder_width, loaded.data.mine) == (64, 3)
    (message,) = own_warnings()
    assert message == f"{path}: lacks keys, which have their defaults: seed=0, train.batch_size=128"


def test_paths_are_absolute_and_follow_a_workdir_that_moves(config, tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "runs/one").mkdir(parents=True)
    monkeypatch.chdir(old)
    ddad = config("ddad")
    ddad.data.root, ddad.data.records, ddad.model.init_from = "data", "runs/records/", "../w.safetensors"
    ddad.train.copy_checkpoints_to = "gs://bucket/run"
    make_absolute(ddad)
    assert ddad.train.copy_checkpoints_to == "gs://bucket/run"
    ddad.train.copy_checkpoints_to = "copies"
    make_absolute(ddad)
    assert ddad.train.copy_checkpoints_to == str(old / "copies")
    assert (ddad.data.root, ddad.data.mixture[0].root) == (str(old / "data"),) * 2
    assert (ddad.data.records, ddad.model.init_from) == (str(old / "runs/records"), str(tmp_path / "w.safetensors"))
    make_absolute(ddad)
    (old / "runs/records").mkdir()
    save_config(ddad, Path("runs/one/config.json"))
    monkeypatch.chdir(tmp_path)
    assert load_config(old / "runs/one/config.json").data.records == str(old / "runs/records")
    old.rename(new)
    moved = load_config(Path("new/runs/one/config.json"))
    assert moved.data.records == str(new / "runs/records")
    assert moved.data.mixture[0].root == str(old / "data")  # by which its records are known
    (new / "runs/records").rmdir()
    assert load_config(new / "runs/one/config.json").data.records == str(old / "runs/records")


def test_a_relative_path_of_before_is_no_change_of_the_run(config, tmp_path, monkeypatch):
    ddad = config("ddad")
    ddad.data.root = "data"
    save_config(ddad, tmp_path / "config.json")
    monkeypatch.chdir(tmp_path)
    make_absolute(ddad)
    assert config_differences(ddad, tmp_path) == []
