"""The task `rig3r`: rig-aware 3D from multi-camera samples, trained, evaluated and reported on."""

import logging
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.pipeline import make_loader
from rig3r_jax.schema import Batch
from rig3r_jax.training.config import use_copies
from rig3r_jax.training.position import Position
from rig3r_jax.training.processes import gather, on_first
from rig3r_jax.training.records import Records, build_mixture, records_folder
from rig3r_jax.training.rig3r import evaluate, report
from rig3r_jax.training.rig3r.checks import problems
from rig3r_jax.training.rig3r.continued import continued
from rig3r_jax.training.rig3r.data import CountedSamples, check_max_scenes, check_splits, check_views, training_stream
from rig3r_jax.training.rig3r.flops import step_flops
from rig3r_jax.training.rig3r.initial import initialise
from rig3r_jax.training.rig3r.kept_quarantine import KeptQuarantine
from rig3r_jax.training.rig3r.layout import Layout, divisors, evaluation_batch_sizes
from rig3r_jax.training.rig3r.memory import DeviceMemory
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import row_share
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.step import TrainStep
from rig3r_jax.training.transfer import to_device

__all__ = ("Rig3RTask", "open_task", "problems", "use_devices")  # a training.task.TaskKind
logger = logging.getLogger(__name__)


def open_task(config: ConfigDict, workdir: Path, out: Path | None = None) -> "Rig3RTask":
    """Records are built or found built, then the model; for an evaluation, with `out`, they are only found.

    Raises ValueError for data that cannot be used and for splits that no source has.
    """
    records = build_mixture(config, records_folder(config, workdir), build=out is None)
    for _, built in records:
        logger.info("%s", built.summary())
    check_splits(config, records)
    check_max_scenes(config, records)
    check_views(config, records)
    return Rig3RTask(PlacedModel(config), records, workdir)


def use_devices(config: ConfigDict, count: int) -> None:
    """Sets a config to evaluate on `count` devices, the parameters cut over as few of them as hold a copy, on each no
    more samples at a time than fit and than its own mesh gave it.

    Scores are pooled over samples, whatever the batches. ValueError, on the first process, where no number of rows is a
    multiple of the devices and divides the samples, and where the devices do not hold one each.
    """
    config.evaluation.batch_size, ways = gather(on_first(lambda: _evaluation_share(config, count)))[0]
    use_copies(config, count, ways)


def _evaluation_share(config: ConfigDict, count: int) -> tuple[int, int]:
    """Samples of a batch, and devices that a copy of the parameters is cut over."""
    sizes = evaluation_batch_sizes(config, count)
    if not sizes:
        fewer = next(number for number in range(count - 1, 0, -1) if evaluation_batch_sizes(config, number))
        raise ValueError(
            f"evaluation.samples={config.evaluation.samples} is no multiple of {count} devices; use {fewer} of them: "
            "CUDA_VISIBLE_DEVICES, or fewer tasks"
        )
    memory = DeviceMemory(config, trains=False)
    for ways in divisors(count):
        layout = Layout(count // ways, ways, 1, 1, config.model.remat)
        if fitting := [size for size in sizes if memory.fits_evaluation(layout, size)]:
            return fitting[-1], ways
    needs = memory.evaluation(layout, sizes[0]).against(memory.limit)
    raise ValueError(f"an evaluation with one sample on a device needs about {needs}; use more devices, or larger ones")


class Rig3RTask:
    """A `training.task.Task`."""

    loss_name = "loss/total"
    ends_early = False

    def __init__(self, placed: PlacedModel, records: Records, workdir: Path):
        self.placed, self.records, self.config, self.workdir = placed, records, placed.config, workdir
        self.devices = tuple(placed.mesh.devices.flat)
        sampling, rows = self.config.sampling, self.config.train.batch_size
        self.images_per_step = rows * sampling.num_views
        self.operations_per_step = step_flops(self.config, placed.model, placed.abstract_params)

    @property
    def abstract_state(self) -> TrainState:
        return self.placed.abstract_state

    @property
    def abstract_params(self) -> PyTree:
        return self.placed.abstract_params

    @property
    def train_step(self) -> TrainStep:
        return self.placed.train_step

    def init(self) -> TrainState:
        """A fresh state, with the parameters of config.model.init_from laid over it, or those and the step of
        config.train.continue_from."""
        state = self.placed.init()
        if self.config.train.continue_from:
            state, origins = continued(state, self.config)
            logger.info("goes on after step %d, parameters from %s", int(state.step), origins)
        elif self.config.model.init_from:
            state, origins = initialise(state, self.config.model.init_from, self.config.model)
            logger.info("parameters from %s", origins)
        return state

    def batches(self, position: Position) -> "_Batches":
        """Samples of the training split from `position` on."""
        return _Batches(self, position)

    def stopped(self, state: TrainState) -> bool:
        """Never before its last step."""
        return False

    def short_evaluation(self, params: PyTree) -> dict[str, float]:
        """The headline numbers of the settings none and all."""
        return evaluate.short_evaluation(self.placed, params, self.records)

    def finish(self, params: PyTree, workdir: Path, *, step: int, out: Path | None = None) -> None:
        """evaluation.json, evaluation.md, report.html, points.ply and cameras.json."""
        report.finish(self.placed, params, self.records, workdir, step=step, out=out or workdir)


class _Batches:
    """The loader of a run."""

    def __init__(self, task: Rig3RTask, position: Position):
        config, self._mesh = task.config, task.placed.mesh
        self._stream = training_stream(config, task.records)
        self._samples = CountedSamples(self._stream)
        self._left_out = KeptQuarantine(self._stream.quarantine, task.workdir, resumed=position.next_sample > 0)
        part, parts = row_share(self._mesh)
        rows = config.train.batch_size // parts
        self._first, self._rows, self._global_batch = position.next_sample + part * rows, rows, config.train.batch_size
        self._loader = make_loader(
            self._samples,
            config.train.batch_size,
            start_sample=position.next_sample,
            process_index=part,
            process_count=parts,
            num_threads=config.data.threads,
            prefetch=config.data.prefetch,
        )

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._loader):
            first = self._first + number * self._global_batch
            self._samples.count(range(first, first + self._rows))
            yield to_device(batch, self._mesh)

    def close(self) -> None:
        self._loader.close()
        self._left_out.save()
        for record, reason in self._stream.quarantine.reasons.items():
            logger.warning("left out %s: %s", record, reason)

    def scalars(self) -> dict[str, float]:
        """Draws that could not be used, so far; samples of each source since the last call, both of this process.

        The records that could not be used are written to the workdir, too.
        """
        self._left_out.save()
        return {"data/bad_draws": float(self._stream.quarantine.bad_draws), **self._samples.take_counts()}
