"""Samples of a run: the stream of its training, the batches of its evaluation."""

import collections
import logging
from collections.abc import Iterable, Iterator

from ml_collections import ConfigDict

from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.fitting import FittingScenes
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream, make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.schema import Batch
from rig3r_jax.training import watchdog
from rig3r_jax.training.records import Records

logger = logging.getLogger(__name__)


def check_splits(config: ConfigDict, records: Records) -> None:
    """ValueError when the split of the training or a set of the evaluation is in no source."""
    available = sorted({split for _, report in records for split, count in report.splits.items() if count})
    named = {"data.split": [config.data.split]}
    if config.evaluation.enabled:
        named["evaluation.sets"] = list(config.evaluation.sets)
    problems = [f"{key}: {s!r}" for key, splits in named.items() for s in splits if s not in available]
    if problems:
        raise ValueError(
            f"no source of data.mixture has the split of {'; '.join(problems)}; they have {', '.join(available)}"
        )


def check_max_scenes(config: ConfigDict, records: Records) -> None:
    """Says which sources have fewer scenes than data.max_scenes takes of each; ValueError where all have."""
    asked, split = config.data.max_scenes, config.data.split
    fewer = {entry.name: count for entry, report in records if 0 < (count := report.splits.get(split, 0)) < asked}
    if not fewer:
        return
    message = f"data.max_scenes is {asked}; {split} has " + ", ".join(f"{n} of {name}" for name, n in fewer.items())
    if len(fewer) == sum(1 for _, report in records if report.splits.get(split)):
        raise ValueError(f"{message}: take at most {max(fewer.values())}, or 0 for all")
    logger.warning("%s, all of which are used", message)


def check_views(config: ConfigDict, records: Records) -> None:
    """Says of every source which scenes of the training and the evaluation cannot fill sampling.num_views.

    ValueError where a source has no others in one of the splits.
    """
    options = PipelineOptions(**config.sampling.to_dict())
    splits = dict.fromkeys([config.data.split, *(config.evaluation.sets if config.evaluation.enabled else ())])
    problems = []
    for entry, report in records:
        for split in (split for split in splits if report.splits.get(split)):
            fitting = FittingScenes(RecordSource(report.path, split), options)
            message = f"{entry.name}, {split}: {fitting}"
            if not len(fitting):
                problems.append(message)
            elif fitting.too_small:
                logger.warning("%s", message)
            else:
                logger.info("%s", message)
    if problems:
        grids = f"sampling.grids={options.grids}" if options.grids else "sampling's camera counts"
        remedy = f"lower sampling.num_views or min_stride, widen {grids}, or build longer scenes (window)"
        raise ValueError("\n".join([*problems, remedy]))


def training_stream(config: ConfigDict, records: Records) -> SampleStream:
    """The samples of training: a function of (config.seed, n)."""
    options = PipelineOptions(**config.sampling.to_dict())
    limits = {"most": config.data.max_scenes, "cache_gigabytes": config.data.cache_gigabytes}
    return _stream(records, config.data.split, options, config.seed, **limits)


class CountedSamples:
    """The samples of a stream, which notes of which source each is until it is counted."""

    def __init__(self, stream: SampleStream) -> None:
        self._stream = stream
        self._sources: dict[int, int] = {}  # of samples that are prepared, and not counted yet; threads write to it
        self._counts: collections.Counter[int] = collections.Counter()

    def __getitem__(self, n: int) -> Batch:
        """Sample n."""
        sample, self._sources[n] = self._stream.sample_and_source(n)
        watchdog.sample_made()
        return sample

    def count(self, samples: Iterable[int]) -> None:
        """These samples are taken."""
        self._counts.update(self._sources.pop(n) for n in samples)

    def take_counts(self) -> dict[str, float]:
        """Samples taken since the last call, by the name of their source: `data/samples/NAME`, of every source."""
        counts, self._counts = self._counts, collections.Counter()
        names = [name for name, _, _ in self._stream.sources]
        of_names = {f"data/samples/{name}": 0.0 for name in names}
        for number, count in counts.items():
            of_names[f"data/samples/{names[number]}"] += count
        return of_names


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


def evaluation_worlds(config: ConfigDict, records: Records, split: str) -> int:
    """Scenes that the samples of `evaluation_batches` are of: with more samples than these, some are of one scene."""
    options = PipelineOptions(**config.sampling.to_dict()).for_evaluation()
    return _stream(records, split, options, config.evaluation.seed).num_records


def overlap_note(records: Records, trained: str, split: str) -> str:
    """One sentence that names the scenes of `split` that are in the split `trained` too; "" where none is."""
    names: dict[str, set[str]] = {trained: set(), split: set()}
    for entry, report in records:
        for of_split, of_scenes in names.items():
            if report.splits.get(of_split):
                source = RecordSource(report.path, of_split)
                of_scenes |= {f"{entry.name}/{source[number].name}" for number in range(len(source))}
    shared = sorted(names[trained] & names[split])
    if not shared:
        return ""
    listed = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
    return (
        f"{len(shared)} of {len(names[split])} scenes of {split} are among those of {trained}, which the run was "
        f"trained on ({listed}): its scores there are no scores of new scenes."
    )


def _stream(
    records: Records, split: str, options: PipelineOptions, seed: int, *, most: int = 0, cache_gigabytes: float = 0.0
) -> SampleStream:
    """`most`: scenes of each source, the first that fit; 0: all."""
    sources = []
    for entry, report in records:
        if split in report.splits:
            source = FittingScenes(RecordSource(report.path, split), options, most)
            source = CachedSource(source, cache_gigabytes) if cache_gigabytes else source
            sources.append((entry.name, source, entry.weight))
    return SampleStream(sources, options, seed)
