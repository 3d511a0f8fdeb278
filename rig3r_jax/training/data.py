"""The data of a run: records are built once, then streamed from any sample on."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.builders import BuildReport, RecordSource, build_records
from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.pipeline import PipelineOptions, SampleStream, make_loader
from rig3r_jax.schema import Batch
from rig3r_jax.training.config import mixture_problems
from rig3r_jax.training.processes import is_first, on_first
from rig3r_jax.training.sharding import batch_sharding, row_share

logger = logging.getLogger(__name__)

Records = list[tuple[ConfigDict, BuildReport]]


def records_folder(config: ConfigDict, workdir: Path) -> Path:
    """Where built records lie: config.data.records, or inside the workdir."""
    return Path(config.data.records) if config.data.records else Path(workdir) / "records"


def build_mixture(config: ConfigDict, folder: Path, *, progress: bool = True) -> Records:
    """Builds the records of every entry with weight, or finds them built; one subfolder per source and options.

    Of many processes the first builds, and the others find what it built: they share `folder`.
    """
    return on_first(lambda: _build(config, folder, progress), then_all=True)


def build_ahead(config: ConfigDict) -> str:
    """Builds what a run of this config reads into config.data.records, where the run finds it; returns a summary.

    ValueError, naming every problem, when that cannot be done.
    """
    problems = list(mixture_problems(config))
    if not config.data.records:
        problems.append("data.records is empty: --config.data.records=FOLDER, the same for the run")
    if problems:
        raise ValueError("\n".join(problems))
    return "\n".join(report.summary() for _, report in build_mixture(config, records_folder(config, Path("."))))


def _build(config: ConfigDict, folder: Path, progress: bool) -> Records:
    built = []
    for entry in config.data.mixture:
        if entry.weight > 0:
            options = entry.options.to_dict()
            key = json.dumps([entry.root and str(Path(entry.root).resolve()), options], sort_keys=True)
            out = folder / f"{entry.name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
            if not is_first() and not out.is_dir():
                raise ValueError(
                    f"process {jax.process_index()} does not see {out}, which process 0 built; "
                    "--config.data.records must be a folder on a file system that all nodes share"
                )
            built.append((entry, build_records(entry.name, entry.root, out, options, progress=progress)))
    return built


def check_splits(config: ConfigDict, records: Records) -> None:
    """ValueError when the split of the training or a set of the evaluation is in no source."""
    found = sorted({split for _, report in records for split, count in report.splits.items() if count})
    wanted = {"data.split": [config.data.split]}
    if config.evaluation.enabled:
        wanted["evaluation.sets"] = list(config.evaluation.sets)
    problems = [f"{key}: {s!r}" for key, splits in wanted.items() for s in splits if s not in found]
    if problems:
        raise ValueError(
            f"no source of data.mixture has the split of {'; '.join(problems)}; they have {', '.join(found)}"
        )


def training_stream(config: ConfigDict, records: Records) -> SampleStream:
    """The samples of training: a function of (config.seed, n)."""
    options = PipelineOptions(**config.sampling.to_dict())
    return _stream(records, config.data.split, options, config.seed, cache_gigabytes=config.data.cache_gigabytes)


def evaluation_batches(
    config: ConfigDict, records: Records, split: str, share: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """The same config.evaluation.samples samples of a split on every call: no augmentation, all metadata present.

    `share` (i, n) picks the i-th of n equal parts of the rows of every batch. A record that cannot be used is replaced
    by the next one and named in the log.
    """
    options = PipelineOptions(**config.sampling.to_dict()).for_evaluation()
    stream = _stream(records, split, options, config.evaluation.seed)
    batches = config.evaluation.samples // config.evaluation.batch_size
    yield from make_loader(
        stream,
        config.evaluation.batch_size,
        process_index=share[0],
        process_count=share[1],
        num_threads=config.data.threads,
        num_batches=batches,
    )
    for record, reason in stream.quarantine.reasons.items():
        logger.warning("left out of the evaluation on %s: %s: %s", split, record, reason)


def _stream(
    records: Records, split: str, options: PipelineOptions, seed: int, *, cache_gigabytes: float = 0.0
) -> SampleStream:
    sources = []
    for entry, report in records:
        if split in report.splits:
            source = RecordSource(report.path, split)
            source = CachedSource(source, cache_gigabytes) if cache_gigabytes else source
            sources.append((entry.name, source, entry.weight))
    return SampleStream(sources, options, seed)


def to_device(batch: PyTree, mesh: Mesh) -> PyTree:
    """The rows of this process (`sharding.row_share`) as its part of the global batch: leaves (rows, views, ...)."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    part, parts = row_share(mesh)

    def place(leaf: np.ndarray) -> jax.Array:
        leaf = np.asarray(leaf)
        rows, start = len(leaf), part * len(leaf)

        def piece(index: tuple[slice, ...]) -> np.ndarray:  # of the global array
            first, last, _ = index[0].indices(rows * parts)
            return leaf[(slice(first - start, last - start), *index[1:])]

        return jax.make_array_from_callback((rows * parts, *leaf.shape[1:]), sharding, piece)

    return jax.tree.map(place, batch)


def to_host(tree: PyTree, mesh: Mesh) -> PyTree:
    """The rows of this process of arrays that are cut over samples (`sharding.samples_sharding`), on the host."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    part, parts = row_share(mesh)

    def collect(array: jax.Array) -> np.ndarray:
        rows = array.shape[0] // parts
        out = np.empty((rows, *array.shape[1:]), array.dtype)
        for shard in array.addressable_shards:
            first, last, _ = shard.index[0].indices(array.shape[0])
            out[first - part * rows : last - part * rows] = shard.data
        return out

    return jax.tree.map(collect, tree)
