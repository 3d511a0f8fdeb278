"""The task `uncertainty`: a head that learns how wrong a frozen backbone's poses are."""

import dataclasses
import functools
import logging
import math
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.options import KINDS
from rig3r_jax.evaluation.error_samples import negative_log_likelihood, squared_distances
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.training.checks import least_problems, mixture_problems
from rig3r_jax.training.config import use_copies
from rig3r_jax.training.position import Position
from rig3r_jax.training.records import Records, build_mixture, records_folder
from rig3r_jax.training.sharding import make_mesh, with_shardings
from rig3r_jax.training.state import TrainState
from rig3r_jax.uncertainty import report
from rig3r_jax.uncertainty.backbone import DIGEST_FILE, METADATA, Backbone, open_backbone_of
from rig3r_jax.uncertainty.head import (
    HeadOptions,
    abstract_params,
    error_samples,
    initial_state,
    make_head_step,
    sample_rows,
)
from rig3r_jax.uncertainty.kept_windows import FEATURES, SPLITS, features_folder
from rig3r_jax.uncertainty.objective import WindowBatch, nll_options, window_batch
from rig3r_jax.uncertainty.pools import Pools, kinds_of, read_pools, window_options
from rig3r_jax.uncertainty.watch import WatchOptions, watch_state

logger = logging.getLogger(__name__)


def problems(config: ConfigDict, devices: int | None, ready: Container[int] = ()) -> Iterator[str]:
    """What keeps a config from running, but for what no task can run with."""
    yield from mixture_problems(config, ready)
    yield from least_problems(config, backbone=("batch_size", "image_size"))
    if config.train.continue_from:
        yield "train.continue_from is of runs of rig3r; leave it empty"
    path, flag = config.backbone.path, "--config.backbone.path="
    if not path:
        yield f"backbone.path is empty; give the workdir of a Rig3R run or a file of `rig3r convert vggt`: {flag}PATH"
    elif not Path(path).exists():
        yield f"backbone.path is {path!r}, which does not exist; give a workdir, or a file of `rig3r convert vggt`"
    if config.backbone.metadata not in METADATA:
        yield f"backbone.metadata is {config.backbone.metadata!r}; it must be one of {', '.join(METADATA)}"
    for name, build in (("windows", window_options), ("nll", nll_options), ("head and optimizer", head_options)):
        try:
            build(config)
        except (ValueError, TypeError) as error:
            yield f"{name}: {error}"
    counts, evaluation = config.windows.counts, config.evaluation
    for key in ("splits", "counts"):
        if len(config.windows[key]) != len(SPLITS):
            yield f"windows.{key} is {config.windows[key]!r}; it must have one for each of {', '.join(SPLITS)}"
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        yield f"windows.counts is {counts!r}; every pool must have at least 1 window"
    elif counts and config.train.batch_size > counts[0]:
        yield f"train.batch_size={config.train.batch_size} is more than the {counts[0]} training windows"
    if config.nll.motion_weighting != "none" and config.train.batch_size == 1:
        weighting = config.nll.motion_weighting
        yield f"nll.motion_weighting={weighting} weighs the windows of a step: --config.train.batch_size=8"
    for index, entry in enumerate(config.data.mixture):
        if entry.weight not in (0, 1):
            yield f"data.mixture[{index}].weight is {entry.weight}; windows come from all frames alike: take 1, or 0"
    if evaluation.trajectories < 0:
        yield f"evaluation.trajectories is {evaluation.trajectories}; it must not be negative"
    if not 0 < evaluation.overlap < 1:
        yield f"evaluation.overlap is {evaluation.overlap}; it must be above 0 and below 1, so that windows join"
    if config.mesh.data * config.mesh.fsdp * config.mesh.frames != 1 or (
        devices is not None and jax.process_count() > 1
    ):
        yield "the head trains on one device of one process: --config.mesh.data=1 --config.mesh.fsdp=1"


def head_options(config: ConfigDict) -> HeadOptions:
    """config.train, config.optimizer and config.head as the head's training takes them."""
    optimizer = config.optimizer.to_dict()
    if optimizer.pop("ema_decay"):
        raise ValueError("optimizer.ema_decay must be 0: no average of the head is kept")
    if optimizer.pop("frozen") or optimizer.pop("layer_decay") != 1:
        raise ValueError("optimizer.frozen must be () and layer_decay 1: the head is all that trains, at one rate")
    watched = {field.name for field in dataclasses.fields(WatchOptions)}
    watch = {key: config.head[key] for key in config.head if key in watched}
    return HeadOptions(
        steps=config.train.steps,
        windows_per_step=config.train.batch_size,
        head_init=config.head.init,
        watch=WatchOptions(**watch),
        **optimizer,
    )


def open_task(config: ConfigDict, workdir: Path, out: Path | None = None) -> "UncertaintyTask":
    """Records, then the backbone, then what it says of the windows: each found where it is there already.

    For an evaluation, with `out`, records are only found, and what the backbone says anew goes there.

    Raises ValueError where the workdir was trained on another backbone.
    """
    records = build_mixture(config, records_folder(config, workdir), build=out is None)
    for _, built in records:
        logger.info("%s", built.summary())
    backbone = open_backbone_of(config, workdir)
    folder = features_folder(config, workdir)
    pools = read_pools(config, records, backbone, folder, out / FEATURES if out else folder)
    if out is None:
        write_atomically(workdir / DIGEST_FILE, backbone.digest.encode())
    return UncertaintyTask(config, records, backbone, pools)


def use_devices(config: ConfigDict, count: int) -> None:
    """Sets a config to evaluate on `count` devices: the head takes one copy whatever there is."""
    use_copies(config, count)


class UncertaintyTask:
    """A `training.task.Task`. Only the head is in its state; the backbone is read, never written."""

    loss_name = "loss/pose_uncertainty_nll"
    operations_per_step = math.nan

    def __init__(self, config: ConfigDict, records: Records, backbone: Backbone, pools: Pools):
        self.config, self.records, self.backbone, self.pools = config, records, backbone, pools
        self.nll, self.head = nll_options(config), head_options(config).for_width(pools.train.width)
        self.ends_early = self.head.watch.stop_near > 0
        mesh = make_mesh(1, 1, devices=jax.devices()[:1])
        self.devices = tuple(mesh.devices.flat)
        self.images_per_step = config.train.batch_size * pools.train.views
        self.windows = window_batch(pools.train, self.nll.min_translation)
        self.train_step = jax.jit(make_head_step(self.nll, self.head, config.train.accumulate))
        self._place = NamedSharding(mesh, PartitionSpec())
        self.abstract_params = with_shardings(mesh, abstract_params(pools.train.width, self.nll))

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        return with_shardings(self._place.mesh, self.init())

    def init(self) -> TrainState:
        """The head's own start."""
        return jax.device_put(initial_state(self.windows, self.nll, self.head, self.config.seed), self._place)

    def batches(self, position: Position) -> "_Batches":
        """Windows of the training pool, every epoch in an order of its own."""
        return _Batches(self.windows, kinds_of(self.pools.train), self.config.train.batch_size, position)

    def stopped(self, state: TrainState) -> bool:
        """Whether d2 has been near enough to its target for long enough."""
        return bool(watch_state(state.opt_state).ended)

    def short_evaluation(self, params: PyTree) -> dict[str, float]:
        """d2 and NLL of the validation windows."""
        samples = error_samples(params, self.pools.validation, self.nll)
        scores = {f"d2_{name}_mean": float(values.mean()) for name, values in squared_distances(samples).items()}
        scores["nll"] = float(negative_log_likelihood(samples).mean())
        return {f"evaluation/validation/{name}": value for name, value in scores.items()}

    def finish(self, params: PyTree, workdir: Path, *, step: int, out: Path | None = None) -> None:
        """The calibration report, charts, and what the uncertainty is worth in a pose graph."""
        report.write_report(self, params, workdir, out or workdir, step=step)


class _Batches:
    """Windows by (seed, sample): a run goes on from any sample."""

    def __init__(self, windows: WindowBatch, kinds: list[str], size: int, position: Position):
        self._windows, self._size, self._position = windows, size, position
        self._kinds = np.array(kinds)
        self._seen: list[np.ndarray] = []
        self._take = jax.jit(lambda windows, rows: windows.take(rows))

    def __iter__(self) -> Iterator[WindowBatch]:
        sample = self._position.next_sample
        while True:
            rows = sample_rows(self._position.seed, sample, self._size, len(self._windows))
            self._seen.append(rows)
            yield self._take(self._windows, jnp.asarray(rows))
            sample += self._size

    def close(self) -> None:
        """There is nothing to end."""

    def scalars(self) -> Mapping[str, float]:
        """Share of each kind of window since the last call."""
        drawn = self._kinds[np.concatenate(self._seen)]
        self._seen = []
        return {f"sampling/{kind}_ratio": float(np.mean(drawn == kind)) for kind in KINDS}
