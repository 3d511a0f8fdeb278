"""The uncertainty task: its step and micro-batches, the names of its metrics, its batches, its pools and the cache."""

import dataclasses
import functools
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.configs import calibrate_study
from rig3r_jax.data.options import KINDS, PipelineOptions
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training import task as tasks
from rig3r_jax.training.noise import NOISE_SCALE
from rig3r_jax.training.position import Position
from rig3r_jax.training.records import build_mixture
from rig3r_jax.uncertainty.features import WindowFeatures, joined
from rig3r_jax.uncertainty.head import HeadOptions, initial_state, make_head_step
from rig3r_jax.uncertainty.kept_windows import SPLITS
from rig3r_jax.uncertainty.objective import window_batch
from rig3r_jax.uncertainty.pools import Pools, kinds_of, read_pools
from rig3r_jax.uncertainty.task import UncertaintyTask
from rig3r_jax.uncertainty.watch import ENDED, WatchState
from tests.batches import random_rotations

VIEWS, WIDTH = 4, 8
NAMES = (
    "loss/pose_uncertainty_nll loss/rot_uncertainty_nll loss/trans_uncertainty_nll calibration/d2_rot_mean "
    "calibration/d2_trans_mean uncertainty/sigma_rot_mean uncertainty/sigma_trans_mean scale/mean scale/std "
    "scale/valid_count_mean scale/raw diagnostic/gt_trans_norm_mean diagnostic/pred_trans_norm_raw_mean "
    "diagnostic/pred_trans_norm_scaled_mean grad/uncertainty_head_norm diagnostic/residual_rot_p90 "
    "diagnostic/residual_trans_p90"
).split() + [f"diagnostic/sigma_{part}_p{percent}" for part in ("rot", "trans") for percent in (10, 50, 90)]
OF_HEAD = {
    "log_variance": [f"diagnostic/log_var_{part}_at_{end}" for part in ("rot", "trans") for end in ("min", "max")],
    "sqrt_information": [
        f"diagnostic/sqrt_info_{part}_{what}" for part in ("rot", "trans") for what in ("p90", "p99", "clamp_hit")
    ],
}
NOT_MERGED = ("scale/std", "_p10", "_p50", "_p90", "_p99")  # of micro-batches: averages of what each says


@functools.cache
def windows(count=12, iterations=2, seed=0):
    rng = np.random.default_rng(seed)

    def cameras(*shape):
        camera_from_world = np.tile(np.eye(4, dtype=np.float32), (*shape, 1, 1))
        camera_from_world[..., :3, :3] = random_rotations(rng, *shape)
        camera_from_world[..., :3, 3] = rng.normal(size=(*shape, 3))
        return camera_from_world

    kinds = itertools.cycle(KINDS)
    return WindowFeatures(
        rng.normal(size=(iterations, count, VIEWS, WIDTH)).astype(np.float32),
        cameras(iterations, count, VIEWS),
        cameras(count, VIEWS),
        tuple(f"{next(kinds)} sequence[{n}]" for n in range(count)),
    )


@pytest.mark.parametrize(
    ("parameterisation", "iterations", "weighting"),
    [("log_variance", 2, "none"), ("cholesky", 1, "none"), ("log_variance", 2, "gt_trans_norm")],
)
def test_step_does_not_depend_on_micro_batches(parameterisation, iterations, weighting):
    nll, options = NllOptions(parameterisation, motion_weighting=weighting), HeadOptions(windows_per_step=12)
    batch = window_batch(windows(12, iterations), nll.min_translation)
    state = initial_state(batch, nll, options, 0)
    one, parts = (jax.jit(make_head_step(nll, options, accumulate))(state, batch) for accumulate in (1, 3))
    moments = [after.opt_state[0][1][0].mu for after, _ in (one, parts)]  # of Adam: a tenth of the gradient
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), *moments)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moments[0])) > 1e-3
    assert one[1].keys() == parts[1].keys() - {NOISE_SCALE}  # which only parts tell
    for name, mean in one[1].items():
        if not name.endswith(NOT_MERGED):
            np.testing.assert_allclose(parts[1][name].compute(), mean.compute(), rtol=1e-4, atol=1e-6, err_msg=name)
    if iterations == 1:  # the loss is then the mean over six components, hence that of its parts
        total, rot, trans = (parts[1][f"loss/{part}_uncertainty_nll"].compute() for part in ("pose", "rot", "trans"))
        np.testing.assert_allclose(total, (rot + trans) / 2, rtol=1e-5)


class MadeUpBackbone:
    """Cameras and features from the truth; counts the batches that it has seen."""

    name, width = "made up", WIDTH

    def __init__(self, digest="a"):
        self.digest, self.seen = digest, 0

    def sample_options(self, views):
        return PipelineOptions(num_views=views, image_size=32).for_evaluation()

    def features(self, batches, names=None):
        parts, told = [], iter(names or map(str, itertools.count()))
        for batch in batches:
            self.seen += 1
            true = np.linalg.inv(batch.targets.reference_from_camera).astype(np.float32)
            features = np.resize(true, (1, *true.shape[:2], WIDTH)).astype(np.float32)
            parts.append(WindowFeatures(features, true[None], true, tuple(next(told) for _ in range(len(true)))))
        return joined(parts)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Of few, small worlds."""
    config = calibrate_study.get_config()
    options = config.data.mixture[0].options
    options.train_worlds, options.test_worlds, options.fixed_rigs, options.steps = 2, 2, 2, 10
    options.image_size = 16
    config.data.records = str(tmp_path_factory.mktemp("records"))
    config.windows.counts, config.windows.views, config.windows.reach = (12, 6, 5), VIEWS, 4
    config.windows.varied, config.windows.consecutive = 0.5, 0.5
    config.backbone.batch_size = 4
    config.train.batch_size = 5
    return config


@pytest.fixture(scope="module")
def records(config):
    return build_mixture(config, Path(config.data.records), progress=False)


@pytest.fixture
def task(config):
    """A task of made-up windows, without a backbone's work."""
    split = windows(12, 1)
    return UncertaintyTask(config.copy_and_resolve_references(), [], MadeUpBackbone(), Pools(split, split, split))


@pytest.mark.parametrize("parameterisation", OF_HEAD)
def test_metrics_of_a_step_have_all_names(config, parameterisation):
    changed = config.copy_and_resolve_references()
    changed.nll.parameterisation = parameterisation
    split = windows(12, 2)
    task = UncertaintyTask(changed, [], MadeUpBackbone(), Pools(split, split, split))
    assert isinstance(task, tasks.Task)
    batches = task.batches(Position(0, 0))
    _, metrics = task.train_step(task.init(), next(iter(batches)))
    names = metrics.keys() | batches.scalars().keys()
    assert {*NAMES, *OF_HEAD[parameterisation], *(f"sampling/{kind}_ratio" for kind in KINDS)} <= names
    others = {name for key, more in OF_HEAD.items() if key != parameterisation for name in more}
    assert not others & names and task.loss_name in names
    assert all(np.isfinite(mean.compute()) for name, mean in metrics.items() if "windowed" not in name)


def test_batches_from_any_position_are_those_of_an_uninterrupted_run(task):
    whole = list(itertools.islice(task.batches(Position(3, 0)), 8))
    for taken in (0, 1, 3, 7):  # an epoch of 12 windows ends inside the third batch of 5
        rest = itertools.islice(task.batches(Position(3, 0).after(5 * taken)), 8 - taken)
        for expected, found in zip(whole[taken:], rest, strict=True):
            jax.tree.map(np.testing.assert_array_equal, found, expected)
    epoch = np.concatenate([batch.features[:, 0, 0] for batch in whole])[:12]
    np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(task.windows.features[:, 0, 0], axis=0))
    other = next(iter(task.batches(Position(4, 0))))
    assert not np.array_equal(other.features, whole[0].features)


def test_ratios_are_those_of_the_windows_since_the_last_row(task):
    batches = task.batches(Position(0, 0))
    drawn = iter(batches)
    kinds = np.array(kinds_of(task.pools.train))
    assert set(kinds) == set(KINDS)
    for steps in (1, 3):
        rows = [next(drawn) for _ in range(steps)]
        features = np.concatenate([batch.features[:, 0, 0, 0] for batch in rows])
        index = np.argmax(features[:, None] == np.asarray(task.windows.features[:, 0, 0, 0]), axis=1)
        expected = {f"sampling/{kind}_ratio": np.mean(kinds[index] == kind) for kind in KINDS}
        assert batches.scalars() == pytest.approx(expected)
    batches.close()


def test_state_tells_when_training_has_ended(task):
    state = task.init()
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), of) for of in (state, task.abstract_state)]
    assert shapes[0] == shapes[1] and not task.stopped(state)

    def end(leaf):
        return leaf._replace(ended=jnp.array(True)) if isinstance(leaf, WatchState) else leaf

    opt_state = jax.tree.map(end, state.opt_state, is_leaf=lambda x: isinstance(x, WatchState))
    ended = state.replace(opt_state=opt_state)
    assert task.stopped(ended)
    after, metrics = task.train_step(ended, next(iter(task.batches(Position(0, 0)))))
    assert task.stopped(after) and metrics[ENDED].total == 1.0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def test_short_evaluation_is_of_the_validation_windows(config):
    pools = Pools(windows(12, 1, 0), windows(9, 1, 1), windows(5, 1, 2))
    found = UncertaintyTask(config, [], MadeUpBackbone(), pools)
    scalars = found.short_evaluation(found.init().params)
    assert {"evaluation/validation/d2_rot_mean", "evaluation/validation/nll"} <= scalars.keys()
    same = UncertaintyTask(config, [], MadeUpBackbone(), dataclasses.replace(pools, test=windows(5, 1, 3)))
    assert same.short_evaluation(found.init().params) == scalars


def equal(first, second):
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@pytest.fixture(scope="module")
def made(config, records, tmp_path_factory):
    """(folder of the cache, pools, batches that passed the backbone)."""
    folder, backbone = tmp_path_factory.mktemp("features"), MadeUpBackbone()
    return folder, read_pools(config, records, backbone, folder), backbone.seen


def test_pools_are_read_from_their_cache(config, records, made):
    folder, pools, seen = made
    assert seen == 3 + 2 + 2 and {path.name for path in folder.iterdir()} == {f"{split}.npz" for split in SPLITS}
    assert [len(getattr(pools, split)) for split in SPLITS] == [12, 6, 5]
    backbone = MadeUpBackbone()
    again = read_pools(config, records, backbone, folder)
    assert backbone.seen == 0
    for split in SPLITS:
        equal(getattr(again, split), getattr(pools, split))
    assert set(kinds_of(pools.train)) == {"varied", "consecutive"}
    assert all(re.fullmatch(r"(varied|consecutive) procedural/.+\[\d+(, ?\d+){3}\]", n) for n in pools.train.names)


@pytest.mark.parametrize(
    ("section", "key", "changed", "computed"),
    [
        ("windows", "reach", 5, 7),
        ("windows", "consecutive", 0.25, 7),
        ("windows", "counts", (11, 6, 5), 3),  # the training windows alone
        ("windows", "splits", ("train", "unseen_rigs", "same_rigs"), 4),
        ("backbone", "batch_size", 2, 0),  # of no account for what is computed
        ("train", "batch_size", 4, 0),
    ],
)
def test_pools_of_other_windows_are_made_anew(config, records, made, tmp_path, section, key, changed, computed):
    other = config.copy_and_resolve_references()
    other[section][key] = changed
    for path in made[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    backbone = MadeUpBackbone()
    read_pools(other, records, backbone, tmp_path)
    assert backbone.seen == computed
    backbone = MadeUpBackbone()
    read_pools(other, records, backbone, tmp_path)
    assert backbone.seen == 0


def test_pools_of_another_backbone_or_seed_are_made_anew(config, records, made, tmp_path):
    for path in made[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    backbone = MadeUpBackbone("b")
    pools = read_pools(config, records, backbone, tmp_path)
    assert backbone.seen == 7
    equal(pools.train, made[1].train)
    other = config.copy_and_resolve_references()
    other.windows.seed = 7
    seeded = read_pools(other, records, backbone, tmp_path)
    assert backbone.seen == 14 and seeded.train.names != pools.train.names


def test_splits_that_share_frames_are_refused(config, records, tmp_path):
    other = config.copy_and_resolve_references()
    other.windows.splits = ("train", "same_rigs", "same_rigs")
    with pytest.raises(ValueError, match=r"windows of validation and test share \d+ frames, first .*give windows.spl"):
        read_pools(other, records, MadeUpBackbone(), tmp_path)
    other.windows.splits = ("train", "same_rigs", "val")
    with pytest.raises(
        ValueError, match=r"windows.splits\[2\] is 'val'; the sources of data.mixture have \['same_rigs"
    ):
        read_pools(other, records, MadeUpBackbone(), tmp_path)
