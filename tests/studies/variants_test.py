"""Variants of a config: what they change, what is refused, and what the grid of a scaling study holds."""

import pytest

from rig3r_jax.configs import ablations, demo, scaling
from rig3r_jax.studies.runner import Run, compute_of, prepared_runs
from rig3r_jax.studies.scaling import _open_sizes, grid
from rig3r_jax.studies.variants import BASE, Variant, chosen, variant_config, variants_of
from rig3r_jax.training.config import flat_config
from rig3r_jax.training.rig3r import task
from rig3r_jax.training.rig3r.setup import build_model


def test_every_ablation_changes_what_it_says_and_nothing_else():
    config = ablations.get_config()
    base = flat_config(variant_config(config, Variant(BASE)))
    for variant in variants_of(config.study)[1:]:
        changed = flat_config(variant_config(config, variant))
        keys = {key for key in base if changed[key] != base[key]} - {"name"}
        assert keys == {word.partition("=")[0] for word in variant.overrides}, variant.name
    assert flat_config(variant_config(config, Variant(BASE))) == base  # none has changed the config itself


def test_variants_of_the_installed_studies_can_run(tmp_path):
    """Those that change more than a weight, and the first and last of the grid."""
    ablated, scaled = ablations.get_config(), _open_sizes(scaling.get_config())
    structural = [one for one in variants_of(ablated.study) if "=" not in one.name]
    ends = [grid(scaled)[0], grid(scaled)[-1]]
    for config, variants in ((ablated, structural), (scaled, ends)):
        runs = prepared_runs(config, variants, tmp_path, task)
        assert [run.name for run in runs] == [variant.name for variant in variants]
        assert not any(run.config.evaluation.enabled for run in runs)
    assert runs[1].compute > 10 * runs[0].compute and runs[1].parameters > 10 * runs[0].parameters


def test_dpt_or_not_is_the_other_one():
    config = demo.get_config()
    names = [variant.name for variant in ablations.study(config).variants]
    assert "dpt" in names and "no-dpt" not in names
    config.model.point_head = "dpt"
    assert "no-dpt" in [variant.name for variant in ablations.study(config).variants]


def test_a_grid_keeps_the_width_of_heads_and_lowers_rates():
    config = _open_sizes(scaling.get_config())
    wide = next(variant for variant in grid(config) if variant.name == "width128-worlds512-size64")
    run = Run(wide, variant_config(config, wide))
    model, options = build_model(run.config, backend="cpu"), run.config.optimizer
    assert (model.width, model.heads, model.ray_hidden) == (128, 8, 128)
    assert options.learning_rate == pytest.approx(2e-3 * 2**-0.8, rel=1e-5)
    assert (run.config.data.max_scenes, run.config.sampling.image_size) == (512, 64)
    config.study.widths = (40,)
    with pytest.raises(ValueError, match="study.widths has 40; take multiples of 16"):
        grid(config)
    config.study.image_sizes = (64, 256)
    with pytest.raises(ValueError, match="study.image_sizes has 256, and data.mixture has images of 128 pixels"):
        grid(config)


def test_operations_are_those_of_all_steps():
    config = demo.get_config()
    steps = config.train.steps
    before = compute_of(config)
    config.train.steps, config.train.batch_size = 2 * steps, 2 * config.train.batch_size
    assert compute_of(config) == pytest.approx(4 * before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss.lambda_rg=0.0",), "variant x: --config.loss.lambda_rg: config.loss has no 'lambda_rg'; did you mean"),
        (("loss.lambda_rig=none",), "variant x: --config.loss.lambda_rig is 'none'; it must be a number"),
        (("loss.lambda_rig=-1.0",), "variant x: this configuration cannot run"),
        (("evaluation.min_baseline=-1.0",), "variant x: this configuration cannot run"),  # though the study evaluates
    ],
)
def test_a_variant_that_cannot_run_is_named_before_any_runs(tmp_path, overrides, message):
    with pytest.raises(ValueError) as raised:
        prepared_runs(ablations.get_config(), [Variant(BASE), Variant("x", overrides)], tmp_path, task)
    assert message in str(raised.value) and not list(tmp_path.iterdir())


def test_names_are_folders_and_different():
    section = ablations.get_config().study
    for name, message in (("a/b", "are names of folders"), ("seed=1", "seed=1 is there twice")):
        section.variants = [*ablations.get_config().study.variants, ablations.variant(name)]
        with pytest.raises(ValueError, match=message):
            variants_of(section)
    variants = variants_of(ablations.get_config().study)
    assert [variant.name for variant in chosen(variants, ["dpt"])] == [BASE, "dpt"]
    with pytest.raises(ValueError, match="--only ddt: no variant has that name; they are base, seed=1"):
        chosen(variants, ["ddt"])
