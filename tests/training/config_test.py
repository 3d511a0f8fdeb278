"""Configs: the paper's values, and messages that a user can act on."""

import importlib
import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rig3r_jax.configs import full as full_module
from rig3r_jax.data.options import PipelineOptions, WindowOptions
from rig3r_jax.data.sources import SOURCES
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training.config import config_differences, load_config, save_config
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import wrong_overrides
from rig3r_jax.training.paths import make_absolute
from rig3r_jax.training.rig3r import task as rig3r_task
from rig3r_jax.training.task import validate
from tests import runs


@pytest.fixture
def config():
    def load(name):
        return importlib.import_module(f"rig3r_jax.configs.{name}").get_config()

    return load


def test_full_is_the_papers_run(config):
    full = config("full")
    paper = {
        "train.steps": 250_000, "train.batch_size": 128, "sampling.num_views": 24, "sampling.image_size": 512,
        "optimizer.learning_rate": 1e-4, "sampling.metadata_dropout": 0.5, "sampling.frame_index_pool": 100,
        "mesh.data": 128, "mesh.fsdp": 1, "model.variant": "large", "model.patch": 16, "model.point_head": "dpt",
        "model.dpt_features": 256, "model.dpt_last": 128, "model.position": "sincos", "model.dtype": "bfloat16",
        "loss.alpha": 0.2, "loss.beta": 1.0, "loss.lambda_pose": 1.0, "loss.lambda_rig": 1.0, "loss.reduction": "mean",
        "optimizer.warmup_steps": 5_000, "optimizer.b1": 0.9, "optimizer.b2": 0.95, "optimizer.weight_decay": 0.05,
        "optimizer.clip_norm": 1.0, "optimizer.end_learning_rate": 1e-6, "optimizer.ema_decay": 0.0,
    }  # fmt: skip
    for key, value in paper.items():
        section, name = key.split(".")
        assert full[section][name] == value, key
    assert {entry.name: entry.weight for entry in full.data.mixture} == full_module.MIXTURE
    assert set(full_module.MIXTURE) <= set(SOURCES) and not any(entry.root for entry in full.data.mixture)
    full.data.roots.ddad = "/data/ddad"
    assert full.data.mixture[0].name == "ddad" and full.data.mixture[0].root == "/data/ddad"
    assert full.train.accumulate == 1 and full.train.steps * full.train.batch_size == 32_000_000
    augmented = ("brightness", "contrast", "saturation", "hue", "blur_probability")
    assert all(full.sampling[change] > 0 for change in augmented)
    assert full.sampling.aspect_range[0] < 1 < full.sampling.aspect_range[1]


@pytest.mark.parametrize("name", ["demo", "ddad", "full", "base"])
def test_configs_pass_their_own_checks(config, name, tmp_path):
    checked = config(name)
    for entry in checked.data.mixture:
        if entry.name != "procedural":
            entry.root = str(tmp_path)
    validate(checked, rig3r_task, devices=checked.mesh.data)


def test_all_problems_come_in_one_message(config):
    wrong = config("full")
    wrong.sampling.image_size = 500
    wrong.optimizer.warmup_steps = 10**9
    wrong.model.remat = "sometimes"
    wrong.loss.reduction = "median"
    wrong.seed = -1
    wrong.evaluation.batch_size = 32
    wrong.sampling.grids = (6, 4)
    with pytest.raises(ValueError) as caught:
        validate(wrong, rig3r_task, devices=1)
    message = str(caught.value)
    for part in (
        "sampling.image_size is 500", "optimizer.warmup_steps", "model.remat is 'sometimes'", 
        "loss.reduction is 'median'",
        "data.mixture[0] (ddad) has no root", "--config.data.mixture[0].root=FOLDER",
        "mesh wants 128 devices, found 1: --config.mesh.data=1",
        "seed is -1", "evaluation.batch_size=32 must be a multiple of mesh.data * mesh.fsdp = 128",
        "sampling.grids is (6, 4)",
    ):  # fmt: skip
        assert part in message


def test_ray_maps_too_coarse_for_the_evaluation_are_told_before_training(config):
    coarse = config("demo")
    coarse.sampling.image_size, coarse.model.patch, coarse.model.rays_per_patch = 32, 16, 1
    validate(coarse, rig3r_task, devices=1)
    coarse.evaluation.known_intrinsics = False
    with pytest.raises(ValueError, match=r"2x2 rays per image .* too few: --config.model.rays_per_patch=16, or"):
        validate(coarse, rig3r_task, devices=1)
    coarse.model.rays_per_patch = 2
    validate(coarse, rig3r_task, devices=1)


@pytest.mark.parametrize(
    "key, values, rule",
    [
        ("seed", (-1, 2**32), "it must be in 0..4294967295"),
        ("train.steps", (2**31,), "it must be less than 2147483648"),
        ("optimizer.learning_rate", (math.nan, math.inf, 0.0), "it must be positive and finite"),
        ("optimizer.eps", (0.0,), "it must be positive and finite"),
        ("optimizer.b1", (math.nan, 1.0, -0.1), r"it must be in \[0, 1\)"),
        ("optimizer.b2", (math.nan, 1.0), r"it must be in \[0, 1\)"),
        ("optimizer.weight_decay", (math.nan, math.inf, -1.0), "it must be finite and not negative"),
        ("optimizer.clip_norm", (math.nan, -1.0), "it must be finite and not negative"),
        ("loss.alpha", (math.nan, math.inf, -1.0), "it must be finite and not negative"),
        ("train.watchdog_seconds", (math.inf,), "it must be finite and not negative"),
        ("train.evaluate_every", (-1,), "it must be finite and not negative"),
        ("train.check_copies_every", (-1,), "it must be finite and not negative"),
        ("train.skip_spikes", (-1.0, math.nan), "it must be finite and not negative"),
        ("train.spike_window", (0,), "it must be at least 1"),
        ("data.cache_gigabytes", (math.nan, -1.0), "it must be finite and not negative"),
        ("data.threads", (-1,), "it must be finite and not negative"),
        ("model.patch", (0, -16), "it must be at least 1"),
        ("model.time_unit", (0.0, math.nan), "it must be a positive number of seconds"),
    ],
)
def test_numbers_that_no_run_can_have_are_named(config, key, values, rule):
    for value in values:
        wrong = config("demo")
        *sections, name = key.split(".")
        (wrong[sections[0]] if sections else wrong)[name] = value
        with pytest.raises(ValueError, match=rf"\* {key} is {value}; {rule}"):
            validate(wrong, rig3r_task, devices=1)


def test_rules_about_two_keys_are_told(config):
    wrong = config("demo")
    wrong.deterministic, wrong.model.attention = True, "auto"
    with pytest.raises(ValueError) as caught:
        validate(wrong, rig3r_task, devices=1)
    assert "model.attention=auto takes, or may take, a kernel" in str(caught.value)
    wrong.model.attention = "chunked"
    validate(wrong, rig3r_task, devices=1)


def test_a_config_that_lacks_keys_is_told_where_to_begin(config):
    for name in ("demo", "full", "ddad", "uncertainty", "uncertainty_backbone", "calibrate_study"):
        check_whole(config(name))
    remedy = r"begin with config = rig3r_jax.configs.base.get_config\(\) and change its keys"
    with pytest.raises(ValueError, match=f"config.task is None; it must be one of rig3r, uncertainty; {remedy}"):
        check_whole(ConfigDict({"learning_rate": 0.1}))
    partial = config("demo")
    del partial.train.log_every
    del partial.mesh
    with pytest.raises(ValueError, match=f"the config lacks mesh, train.log_every; {remedy}"):
        check_whole(partial)


def test_missing_folder_is_named(config):
    wrong = config("ddad")
    wrong.data.root = "/nowhere/at/all"
    with pytest.raises(ValueError, match="'/nowhere/at/all', which is no folder"):
        validate(wrong, rig3r_task, devices=1)


def test_unknown_key_gets_the_nearest_name(config):
    demo = config("demo")
    assert list(wrong_overrides(demo, ["--config.train.steps=3", "--config.data.mixture[0].weight=2"])) == []
    (line,) = wrong_overrides(demo, ["--config.optimizer.learning_rat=1"])
    assert (
        line == "--config.optimizer.learning_rat: config.optimizer has no 'learning_rat'; did you mean learning_rate?"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config=configs/full.py", "--config.typo=1"], "config has no 'typo'"),
        (["--config", "configs/full.py", "--config.trian.steps=1"], "config has no 'trian'; did you mean train?"),
        (
            ["--config=configs/full.py", "--config.train.steps=many"],
            "--config.train.steps is 'many'; it must be a whole number",
        ),
        (
            ["--config=configs/full.py", "--config.sampling.aspect_range=3"],
            "sampling.aspect_range is (3,); it must hold pairs",
        ),
        (["--config=configs/nowhere.py"], "nowhere"),
        ([], "--config is missing"),
        (["--config=configs/full.py"], "data.mixture[0] (ddad) has no root"),
    ],
)
def test_train_explains_a_wrong_command_line(repo, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(repo)
    printed = runs.run_here("train", *arguments, f"--workdir={tmp_path / 'w'}", code=2)
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) <= 10
    assert not (tmp_path / "w").exists()


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


def test_sections_are_the_fields_of_their_options(config):
    assert PipelineOptions(**config("base").sampling.to_dict()) == PipelineOptions()
    windows = config("uncertainty").windows.to_dict()
    others = {key: windows.pop(key) for key in ("splits", "counts", "seed")}
    assert WindowOptions(**windows) == WindowOptions() and len(others["splits"]) == len(others["counts"])
    assert NllOptions(**config("uncertainty").nll.to_dict()) == NllOptions()
    assert LossWeights(**config("base").loss.to_dict()) == LossWeights()
    assert ScoreOptions.of(config("base").evaluation.to_dict()) == ScoreOptions()


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
