"""The PyTorch twin: it agrees with the Flax model to rounding, and whatever is broken on one side is noticed."""

import argparse
import dataclasses
import functools
from unittest import mock

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rig3r_jax.configs import demo  # noqa: E402
from rig3r_jax.geometry.lenses import batch_lens  # noqa: E402
from rig3r_jax.losses.multitask import LossWeights  # noqa: E402
from rig3r_jax.parity import twin  # noqa: E402
from rig3r_jax.parity.compare import Comparison  # noqa: E402
from rig3r_jax.parity.inputs import random_batch  # noqa: E402
from rig3r_jax.parity.torch_lenses import lens_rays  # noqa: E402
from rig3r_jax.parity.torch_losses import camera_rays, multitask_loss, points_from_depth, raymap  # noqa: E402
from rig3r_jax.parity.torch_optimizer import clip_by_global_norm, learning_rate  # noqa: E402
from rig3r_jax.parity.torch_run import Outcome  # noqa: E402
from rig3r_jax.parity.twin import run_twin, twin_command  # noqa: E402
from rig3r_jax.parity.twin_tables import (  # noqa: E402
    Section,
    Silent,
    compare_outcomes,
    format_section,
    worst_of_blocks,
)
from rig3r_jax.training.optimizer import learning_rate_schedule  # noqa: E402

TINY = {
    "width": 32, "heads": 2, "encoder_depth": 1, "decoder_depth": 4, "ray_hidden": 16, "points_per_patch": 2,
    "rays_per_patch": 2, "unroll": False, "remat": "attention", "attention": "chunked",
}  # fmt: skip
DPT = {
    "point_head": "dpt", "rays_per_patch": 16, "position": "rope", "qk_norm": True, "decoder_width": 48,
    "dpt_features": 8, "dpt_last": 8,
}  # fmt: skip
FAST = {"batch": 2, "views": 2, "size": 32}
# What a comparison runs, beside what every sweep hangs on.
COVERED = (
    *(f"rig3r_jax/{layer}" for layer in ("configs", "geometry", "losses", "models", "parity", "training", "weights")),
    *(f"rig3r_jax/data/{name}.py" for name in ("options", "scene", "source", "sources/__init__")),
    "rig3r_jax/evaluation/options.py",
    "rig3r_jax/extras.py",
)
KEY_BIASES = {
    "encoder.blocks.0.attn.qkv.bias[k]",
    *(f"decoder.{block}.attn.qkv.bias[k]" for block in ("stage0.0", "stage0.1", "stage1.0", "stage2.0")),
}


def _config(**model):
    config = demo.get_config()
    config.model.update({**TINY, **model})
    config.loss.update({"beta": 0.7, "lambda_pose": 0.6, "lambda_rig": 1.3})
    return config


@functools.cache
def _ours():
    """Our side of the comparison: parameters and outcome, the same whatever is broken on the other side."""
    kept = {}

    def keep(name, function):
        def call(*args):
            inputs = name, "Distortion" in str(jax.tree.structure(args))  # pinholes, or lenses of all kinds
            if inputs not in kept:
                kept[inputs] = function(*args)
            return kept[inputs]

        return call

    return {name: keep(name, getattr(twin, name)) for name in ("random_parameters", "run_flax")}


@functools.cache
def _sections(corrupt: str | None = None) -> dict[str, Section]:
    with mock.patch.multiple(twin, **_ours()):
        sections = run_twin(_config(), precisions=("float64",), steps=8, corrupt=corrupt, **FAST)
    return {section.title.removeprefix("float64: "): section for section in sections}


def _beyond(section: Section) -> set[str]:
    return {row.name for row in section.rows if not row.passed}


def test_forward_gradients_and_steps_agree_in_float64():
    sections = _sections()
    assert list(sections) == [
        "forward",
        "loss terms",
        "gradients",
        "8 steps of AdamW",
        "parameters after 8 steps",
    ]
    assert not [name for section in sections.values() for name in _beyond(section)]
    assert max(row.relative for row in sections["gradients"].rows) < 1e-12
    names = {row.name for row in sections["forward"].rows}
    assert {"encoder", "rig_embedding", "decoder.0", "decoder.1", "decoder.2", "points", "rig_center"} <= names
    assert all(row.dtype == "float64" for section in sections.values() for row in section.rows)


def test_key_biases_are_reported_apart_and_nothing_else_is():
    sections = _sections()
    for title in ("gradients", "parameters after 8 steps"):
        assert {each.name for each in sections[title].silent} == KEY_BIASES
        assert not KEY_BIASES & {row.name for row in sections[title].rows}
    assert all(max(each.ours, each.theirs) < 1e-15 for each in sections["gradients"].silent)
    # Noise below AdamW's epsilon moves a parameter by far less than the learning rate.
    assert all(each.ours < 1e-8 for each in sections["parameters after 8 steps"].silent)


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_dpt_rotary_positions_and_normed_queries_agree_in_float64():
    """With rotary positions no gradient of the keys' biases is zero, so everything is compared."""
    sections = run_twin(_config(**DPT), precisions=("float64",), steps=0, **{**FAST, "size": 48})  # an odd patch grid
    assert [section.title for section in sections] == [f"float64: {x}" for x in ("forward", "loss terms", "gradients")]
    assert not [name for section in sections for name in _beyond(section)]
    names = {row.name for row in sections[2].rows}
    assert {"point_head.dpt.level1_resize.weight", "decoder.stage2.0.attn.q_norm.weight", "decoder_embed.bias"} <= names
    assert not sections[2].silent


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_lenses_of_all_kinds_agree_in_float64():
    sections = run_twin(_config(), precisions=("float64",), steps=0, lenses=True, batch=2, views=4, size=32)
    names = ("forward", "loss terms", "gradients")
    assert [section.title for section in sections] == [f"float64, lenses of all kinds: {name}" for name in names]
    assert not [name for section in sections for name in _beyond(section)]


def test_rays_of_every_lens_are_those_of_the_package_past_90_degrees():
    batch = random_batch(lenses=True, batch=2, views=4, size=32)
    targets = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype.kind == "f" else leaf, batch.targets)
    ours = batch_lens(targets.intrinsics, targets.distortion)
    u, v = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
    pixels = np.stack([u, v], axis=-1)
    theirs = lens_rays(
        *jax.tree.map(torch.from_numpy, (targets.intrinsics, targets.distortion)), torch.from_numpy(pixels)
    )
    np.testing.assert_allclose(theirs.numpy(), ours.rays(pixels[None, None]), atol=1e-9)
    assert set(targets.distortion.kind.ravel()) == {0, 1, 2, 3} and theirs[..., 2].min() < -0.2
    np.testing.assert_allclose(ours.project(theirs.numpy()), np.broadcast_to(pixels, (2, 4, 32, 32, 2)), atol=1e-6)


def test_a_broken_weight_is_noticed_from_there_on(capsys):
    options = {"precision": ("float64",), "steps": 8, "seed": 0, "all": False, "corrupt": None, **FAST}
    with mock.patch.multiple(twin, **_ours()):
        assert twin_command(_config(), argparse.Namespace(**options)) == 0
        assert "0 beyond tolerance\n" in capsys.readouterr().out[-30:]
        options["corrupt"] = "decoder.stage1.0.mlp.fc2.weight"
        assert twin_command(_config(), argparse.Namespace(**options)) == 1
    out = capsys.readouterr().out
    verdicts = {
        line.split()[0]: "BEYOND" in line for line in out.splitlines() if line.split()[-1:] in (["ok"], ["BEYOND"])
    }
    assert not any(verdicts[name] for name in ("encoder", "rig_embedding", "decoder.in", "decoder.0"))
    assert all(verdicts[name] for name in ("decoder.1", "decoder.2", "points", "pose_center", "loss/total"))


def test_a_broken_weight_of_the_loss_is_noticed():
    sections = _sections("loss.lambda_rig")
    assert not _beyond(sections["forward"])
    assert _beyond(sections["loss terms"]) == {"loss/total"}
    gradients = _beyond(sections["gradients"])
    assert "rig_head.center.fc1.weight" in gradients and "pose_head.center.fc1.weight" not in gradients


def test_a_broken_optimizer_is_noticed():
    sections = _sections("optimizer.weight_decay")
    assert not any(_beyond(sections[title]) for title in ("forward", "loss terms", "gradients"))
    beyond = _beyond(sections["parameters after 8 steps"])
    assert {"encoder.patch_embed.weight", "point_head.proj.weight"} <= beyond


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_the_demo_agrees_in_float32():
    config = _config(position="rope", qk_norm=True)
    for section in run_twin(config, precisions=("float32",), steps=20, batch=3, views=3, size=64):
        assert not _beyond(section), section.title
        assert all("from float64: ours" in row.note for row in section.rows)


def _outcome_of(gradients):
    return Outcome({}, {}, gradients, {}, {})


def test_a_gradient_that_is_zero_on_their_side_only_is_no_noise():
    name = "encoder.blocks.0.attn.qkv.bias"
    theirs = {"a.weight": np.ones(4), name: np.array([1.0, 1e-17, 1.0])}
    silent = compare_outcomes("float64", _outcome_of(theirs), _outcome_of(theirs), _outcome_of(theirs), {})[2]
    assert [each.name for each in silent.silent] == [f"{name}[k]"] and not silent.beyond
    ours = {**theirs, name: np.array([1.0, 1e-3, 1.0])}
    loud = compare_outcomes("float64", _outcome_of(ours), _outcome_of(theirs), _outcome_of(theirs), {})[2]
    assert not loud.silent and _beyond(loud) == {f"{name}[k]"}


def test_a_parameter_of_one_side_only_is_an_error():
    one, two = _outcome_of({"a": np.ones(1)}), _outcome_of({"a": np.ones(1), "b": np.ones(1)})
    with pytest.raises(ValueError, match="only one side has \\['b'\\]"):
        compare_outcomes("float64", one, two, two, {})


def _row(name, relative):
    return Comparison(name, (2, 3), "float64", relative, relative, 1e-10)


def test_tables_show_the_worst_of_every_block():
    rows = [
        _row("encoder.blocks.0.norm1.weight", 1e-16),
        _row("encoder.blocks.0.mlp.fc1.weight", 1e-15),
        _row("encoder.blocks.10.norm1.weight", 1e-16),
        _row("decoder.stage0.1.attn.qkv.bias[q]", 1e-3),
        _row("decoder.stage0.1.norm1.weight", np.nan),
        _row("pose_head.center.fc1.weight", 0.0),
        _row("pose_head.directions.fc1.weight", 1e-14),
    ]
    worst = worst_of_blocks(rows)
    assert [row.name for row in worst] == [rows[i].name for i in (1, 2, 4, 6)]
    assert worst[2].note == "2 of 2 in the block are beyond"
    section = Section("float64: gradients", rows, [Silent("x[k]", 1e-17, 2e-18), Silent("y[k]", 0.0, 0.0)], True)
    short, full = (format_section(section, in_full=in_full) for in_full in (False, True))
    assert "the worst of 7 arrays" in short and "BEYOND" in short and "largest here: x[k]" in short
    assert "norm1.weight" not in short.split("encoder.blocks.10")[0] and "y[k]" not in short
    assert all(row.name in full for row in rows) and "  y[k]: ours 0.0e+00, theirs 0.0e+00" in full
    assert section.beyond == 2 and "4 compared, 1 beyond" in short


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precisions": ("float16",)}, "float16 is not known; take some of float64, float32, tf32, bfloat16"),
        ({"size": 40}, "size is 40; it must be a multiple of model.patch=16"),
        ({"corrupt": "loss.reduction"}, "corrupt is 'loss.reduction'"),
    ],
)
def test_what_cannot_be_run_is_told(change, message):
    with pytest.raises(ValueError, match=message), mock.patch.multiple(twin, **_ours()):
        run_twin(_config(), **{"precisions": ("float64",), "steps": 0, **FAST, **change})


def test_fp8_has_no_twin():
    with pytest.raises(ValueError, match="twin has no linear layers of kind 'fp8': --config.model.linear=plain"):
        run_twin(_config(linear="fp8"), precisions=("float64",), steps=0, **FAST)


def test_schedule_agrees_with_the_one_of_training():
    schedule = learning_rate_schedule(learning_rate=2e-3, end_learning_rate=1e-5, warmup_steps=5, steps=20)
    ours = [learning_rate(step, peak=2e-3, end=1e-5, warmup_steps=5, steps=20) for step in range(25)]
    np.testing.assert_allclose(ours, [schedule(step) for step in range(25)], rtol=1e-6, atol=1e-12)
    assert ours[0] == 0.0 and ours[5] == 2e-3 and ours[20] == ours[24] == pytest.approx(1e-5)


@pytest.mark.parametrize("largest", [1.0, 100.0])
def test_clipping_leaves_the_direction_and_small_gradients_alone(largest):
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for size in (3, 5)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 3.0)
    norm = clip_by_global_norm(parameters, largest)
    assert norm.item() == pytest.approx(3 * 8**0.5, rel=1e-15)
    expected = 3.0 * min(1.0, largest / (3 * 8**0.5))
    assert all((parameter.grad - expected).abs().max() < 1e-15 for parameter in parameters)


def test_random_batches_leave_nothing_out():
    batch = random_batch(seed=1, batch=3, views=4, size=32)
    told = batch.views.metadata
    for known in (told.has_camera_id, told.has_time, told.has_rig):
        assert known.sum() == known.size // 2
    assert np.isnan(told.time[~told.has_time]).all() and np.isnan(told.intrinsics[~told.has_rig]).all()
    assert all(sorted(set(row)) == sorted(row) and row[0] == 0 for row in told.frame_index.tolist())
    assert not batch.targets.valid[2].any() and batch.targets.valid[:2].any(axis=(2, 3)).all()
    assert not batch.views.image_mask.all(axis=(2, 3)).all()
    turns = batch.targets.rig_from_camera[..., :3, :3].astype(np.float64)
    np.testing.assert_allclose(turns @ np.swapaxes(turns, -1, -2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-6)
    again = random_batch(seed=1, batch=3, views=4, size=32)
    for field in dataclasses.fields(batch.targets):
        np.testing.assert_array_equal(getattr(again.targets, field.name), getattr(batch.targets, field.name))


@pytest.mark.parametrize("case", ["cam_z/sum", "cam_z/mean", "cam_z/mean_raymask"])
def test_golden_seed_loss_values_and_gradients_of_the_twin(shared, case):
    """The twin's loss against values that neither side of the twin has computed."""
    inputs, outputs = (np.load(shared / f"golden/seed_loss/{name}.npz") for name in ("inputs", "outputs"))
    x = {name: torch.from_numpy(inputs[name]) for name in inputs.files}
    fields = {
        "X": ("points", "pred_pointmap"),
        "C": ("confidence", "pred_conf"),
        "r_pose": ("pose_directions", "pred_pose_dirs"),
        "c_pose": ("pose_center", "pred_pose_center"),
        "r_rig": ("rig_directions", "pred_rig_dirs"),
        "c_rig": ("rig_center", "pred_rig_center"),
    }
    predictions = {name: x[source].clone().requires_grad_() for name, source in fields.values()}
    scale = torch.from_numpy(outputs["zbar/cam_z"])
    intrinsics = x["K"].expand(2, 3, 3, 3)
    truth = {"points_valid": x["mask"], "scale": scale, "has_scale": torch.ones(2, dtype=torch.bool)}
    truth["ray_mask"] = x["raymask"].expand(2, 3, 4, 5) if case.endswith("raymask") else torch.ones_like(x["mask"])
    for name, rotation, center in (
        ("pose", x["gt_pose_R_cam2ref"], x["gt_pose_center"]),
        ("rig", x["gt_rig_R_cam2rig"], x["gt_rig_center"]),
    ):
        frame = torch.eye(4, dtype=torch.float64).repeat(2, 3, 1, 1)
        frame[..., :3, :3], frame[..., :3, 3] = rotation, center
        directions, origin = raymap(frame, intrinsics, (4, 5), (4, 5))
        truth |= {f"{name}_directions": directions, f"{name}_center": origin / scale[:, None, None]}
        if name == "pose":
            distance = x["depth"] / camera_rays(intrinsics, None, (4, 5), (4, 5))[..., 2]  # theirs is along the axes
            truth["points"] = points_from_depth(distance, intrinsics, frame) / scale[:, None, None, None, None]
    names = {"alpha": "alpha", "beta": "beta", "lambda_pose": "lambda_p", "lambda_rig": "lambda_r"}
    weights = {key: float(inputs[name]) for key, name in names.items()}
    assert set(weights) | {"reduction"} == {field.name for field in dataclasses.fields(LossWeights)}
    total, terms = multitask_loss(predictions, truth, **weights, reduction=case.split("/")[1].split("_")[0])
    total.backward()
    for key, name in {"pmap": "pointmap", "p_rmap": "pose_raymap", "r_rmap": "rig_raymap", "total": "total"}.items():
        np.testing.assert_allclose(terms[f"loss/{name}"].item(), outputs[f"{case}/{key}"], rtol=1e-9)
    for key, (name, _) in fields.items():
        wanted = outputs[f"{case}/grad_total_autograd/{key}"]
        np.testing.assert_allclose(predictions[name].grad.numpy(), wanted, rtol=1e-9, atol=1e-9)
