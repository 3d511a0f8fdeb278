"""The task `rig3r`: rig-aware 3D from multi-camera samples, trained, evaluated and reported on."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.pipeline import PipelineOptions, make_loader
from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.models.dpt import views_at_a_time
from rig3r_jax.schema import Batch
from rig3r_jax.training import evaluate, report
from rig3r_jax.training.config import build_model, least_problems, mixture_problems
from rig3r_jax.training.data import Records, build_mixture, check_splits, records_folder, to_device, training_stream
from rig3r_jax.training.flops import train_flops
from rig3r_jax.training.initial import init_problems, initialise
from rig3r_jax.training.position import Position
from rig3r_jax.training.setup import Run, build_run
from rig3r_jax.training.sharding import row_share
from rig3r_jax.training.state import TrainState

logger = logging.getLogger(__name__)


def problems(config: ConfigDict, devices: int | None) -> Iterator[str]:
    """What keeps a config from running, but for what no task can run with."""
    yield from mixture_problems(config)
    yield from _sampling_problems(config)
    yield from _model_problems(config)
    yield from _loss_and_evaluation_problems(config)
    yield from _mesh_problems(config, devices)


def open_task(config: ConfigDict, workdir: Path) -> "Rig3RTask":
    """Records are built or found built, then the model.

    Raises ValueError for data that cannot be used and for splits that no source has.
    """
    records = build_mixture(config, records_folder(config, workdir))
    for _, built in records:
        logger.info("%s", built.summary())
    check_splits(config, records)
    return Rig3RTask(build_run(config), records)


class Rig3RTask:
    """A `training.task.Task`."""

    loss_name = "loss/total"
    ends_early = False

    def __init__(self, run: Run, records: Records):
        self.run, self.records, self.config = run, records, run.config
        self.abstract_state, self.train_step = run.abstract_state, run.train_step
        self.devices = tuple(run.mesh.devices.flat)
        views, size, rows = run.config.sampling.num_views, run.config.sampling.image_size, run.config.train.batch_size
        self.images_per_step = rows * views
        self.operations_per_step = rows * train_flops(run.model, views, size, size)

    def init(self) -> TrainState:
        """A fresh state, with the parameters of config.model.init_from laid over it."""
        state = self.run.init()
        if self.config.model.init_from:
            state, told = initialise(state, self.config.model.init_from, self.config.model)
            logger.info("parameters from %s", told)
        return state

    def batches(self, position: Position) -> "_Batches":
        """Samples of the training split from `position` on."""
        return _Batches(self, position)

    def stopped(self, state: TrainState) -> bool:
        """Never before its last step."""
        return False

    def short_evaluation(self, params: PyTree) -> dict[str, float]:
        """The headline numbers of the settings none and all."""
        return evaluate.short_evaluation(self.run, params, self.records)

    def finish(self, params: PyTree, workdir: Path, *, step: int) -> None:
        """evaluation.json, evaluation.md, report.html, points.ply and cameras.json."""
        report.finish(self.run, params, self.records, workdir, step=step)


class _Batches:
    """The loader of a run."""

    def __init__(self, task: Rig3RTask, position: Position):
        config, self._mesh = task.config, task.run.mesh
        self._stream = training_stream(config, task.records)
        part, parts = row_share(self._mesh)
        self._loader = make_loader(
            self._stream,
            config.train.batch_size,
            start_sample=position.next_sample,
            process_index=part,
            process_count=parts,
            num_threads=config.data.threads,
            prefetch=config.data.prefetch,
        )

    def __iter__(self) -> Iterator[Batch]:
        return (to_device(batch, self._mesh) for batch in self._loader)

    def close(self) -> None:
        self._loader.close()
        for record, reason in self._stream.quarantine.reasons.items():
            logger.warning("left out %s: %s", record, reason)

    def scalars(self) -> dict[str, float]:
        return {"data/bad_draws": float(self._stream.quarantine.bad_draws)}


def _sampling_problems(config: ConfigDict) -> Iterator[str]:
    pairs = {
        key: (config.sampling[key],) for key in config.sampling if key.endswith("_range") and key != "camera_id_range"
    }
    pairs["grids"] = config.sampling.grids
    wrong = [key for key, values in pairs.items() if not all(np.shape(value) == (2,) for value in values)]
    for key in wrong:
        example = "((2, 3), (3, 2)), times x cameras" if key == "grids" else "(0.8, 1.0)"
        yield f"sampling.{key} is {config.sampling[key]!r}; it must hold pairs of numbers, such as {example}"
    try:
        if not wrong:
            PipelineOptions(**config.sampling.to_dict())
    except (ValueError, TypeError) as error:
        yield f"sampling: {error}"
    if config.sampling.image_size % config.model.patch:
        yield (
            f"sampling.image_size is {config.sampling.image_size}; it must be a multiple of "
            f"model.patch={config.model.patch}"
        )


def _model_problems(config: ConfigDict) -> Iterator[str]:
    model = config.model
    if model.attention == "cudnn" and model.dtype != "bfloat16":
        yield f"model.attention=cudnn works in bfloat16 only, model.dtype is {model.dtype}; take auto"
    try:
        built = build_model(config, backend="cpu")
    except (ValueError, TypeError) as error:
        yield str(error)
        return
    if model.get("init_from"):
        yield from init_problems(model.init_from, model)
    if built.decoder_depth < 4:
        yield f"model.decoder_depth is {built.decoder_depth}; at least 4, since heads read the depths L/2, 3L/4 and L"
    for side in ("points_per_patch", "rays_per_patch"):
        if model.patch % model[side]:
            yield f"model.{side} is {model[side]}; it must divide model.patch={model.patch}"
    width = built.decoder_width or built.width
    if built.width % (4 * built.heads) or width % (4 * built.heads):
        yield f"model {model.variant}: widths {built.width}, {width} must be multiples of 4 * heads = {4 * built.heads}"


def _loss_and_evaluation_problems(config: ConfigDict) -> Iterator[str]:
    evaluation = config.evaluation
    if config.loss.reduction not in ("mean", "sum"):
        yield f"loss.reduction is {config.loss.reduction!r}; it must be mean or sum"
    unknown = sorted(set(config.loss.keys()) - {field.name for field in dataclasses.fields(LossWeights)})
    if unknown:
        yield f"loss has the unknown keys {', '.join(unknown)}"
    yield from least_problems(config, evaluation=("samples", "batch_size"))
    if evaluation.samples % max(evaluation.batch_size, 1):
        yield (
            f"evaluation.samples={evaluation.samples} must be a multiple of "
            f"evaluation.batch_size={evaluation.batch_size}"
        )


def _mesh_problems(config: ConfigDict, devices: int | None) -> Iterator[str]:
    mesh, views = config.mesh, config.sampling.num_views
    rows = mesh.data * mesh.fsdp
    wanted = rows * mesh.frames
    if config.evaluation.enabled and rows > 0 and config.evaluation.batch_size % rows:
        size = config.evaluation.batch_size
        yield f"evaluation.batch_size={size} must be a multiple of mesh.data * mesh.fsdp = {rows}"
    if mesh.frames > 0 and views % mesh.frames:
        yield f"sampling.num_views={views} must be a multiple of mesh.frames={mesh.frames}"
    elif mesh.frames > 1 and config.model.point_head == "dpt":
        chunk = views_at_a_time(views, config.model.dpt_chunk)
        if chunk % mesh.frames:
            yield (
                f"model.dpt_chunk={config.model.dpt_chunk} makes chunks of {chunk} of {views} views, which must be a "
                f"multiple of mesh.frames={mesh.frames}: --config.model.dpt_chunk={mesh.frames}"
            )
    local = jax.local_device_count() if devices else 1
    if mesh.frames > 0 and local % mesh.frames and mesh.frames % local:
        yield (
            f"mesh.frames={mesh.frames} cuts a process of {local} devices across samples; it must divide them or be a "
            "multiple of them"
        )
    if devices is not None and wanted != devices:
        alone = mesh.fsdp == mesh.frames == 1
        remedy = f"--config.mesh.data={devices}" if alone else "--config.mesh.data, .fsdp and .frames multiply"
        yield f"mesh wants {wanted} devices, found {devices}: {remedy}"
