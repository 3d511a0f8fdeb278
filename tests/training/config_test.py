"""Configs: the paper's values, and messages that a user can act on."""

import math

import pytest
from ml_collections import ConfigDict

from rig3r_jax.configs import full as full_module
from rig3r_jax.data.options import PipelineOptions, WindowOptions
from rig3r_jax.data.sources import SOURCES
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import wrong_overrides
from rig3r_jax.training.rig3r import task as rig3r_task
from rig3r_jax.training.task import validate
from tests import runs


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


def test_sections_are_the_fields_of_their_options(config):
    assert PipelineOptions(**config("base").sampling.to_dict()) == PipelineOptions()
    windows = config("uncertainty").windows.to_dict()
    others = {key: windows.pop(key) for key in ("splits", "counts", "seed")}
    assert WindowOptions(**windows) == WindowOptions() and len(others["splits"]) == len(others["counts"])
    assert NllOptions(**config("uncertainty").nll.to_dict()) == NllOptions()
    assert LossWeights(**config("base").loss.to_dict()) == LossWeights()
    assert ScoreOptions.of(config("base").evaluation.to_dict()) == ScoreOptions()
