"""The windows of a run: a fixed pool per split, seen by the frozen backbone once and kept in the workdir."""

import dataclasses
import itertools
import logging
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict
from tqdm import tqdm

from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.options import WindowOptions
from rig3r_jax.data.pipeline import make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.window_stream import WindowStream
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.records import Records
from rig3r_jax.uncertainty.backbone import Backbone
from rig3r_jax.uncertainty.features import WindowFeatures, load_cached, save
from rig3r_jax.uncertainty.kept_windows import SPLITS

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pools:
    """Windows of each split; no frame is in two of them."""

    train: WindowFeatures
    validation: WindowFeatures  # for the temperature of recalibration alone
    test: WindowFeatures


def window_options(config: ConfigDict) -> WindowOptions:
    """config.windows without what is of pools."""
    names = {field.name for field in dataclasses.fields(WindowOptions)}
    return WindowOptions(**{key: value for key, value in config.windows.items() if key in names})


def open_stream(config: ConfigDict, records: Records, backbone: Backbone, split: str) -> WindowStream:
    """The windows of a split of SPLITS: those of the sources' split that config.windows.splits gives for it."""
    number, options = SPLITS.index(split), window_options(config)
    of_sources = config.windows.splits[number]
    sources = [
        (entry.name, CachedSource(RecordSource(report.path, of_sources), config.data.cache_gigabytes))
        for entry, report in records
        if report.splits.get(of_sources)
    ]
    lacking = [entry.name for entry, report in records if not report.splits.get(of_sources)]
    if sources and lacking:
        logger.warning("%s: %s have no split %r, so none of their windows are in it", split, lacking, of_sources)
    if not sources:
        available = sorted({name for _, report in records for name, count in report.splits.items() if count})
        raise ValueError(f"windows.splits[{number}] is {of_sources!r}; the sources of data.mixture have {available}")
    return WindowStream(sources, backbone.sample_options(options.views), options, config.windows.seed + number)


def read_pools(
    config: ConfigDict, records: Records, backbone: Backbone, folder: Path, new: Path | None = None
) -> Pools:
    """The pools, from the cache in `folder` where it is of the same backbone, records and windows.

    Pools that are not there are computed and kept, in `new` if that is given.

    Raises:
        ValueError: a split without sequences, or two splits with the same frames.
    """
    folder, new = Path(folder), Path(new or folder)
    pools, frames = {}, {}
    for split, count in zip(SPLITS, config.windows.counts, strict=True):
        key = _key(config, records, backbone, split, count)
        cached = (load_cached(place / f"{split}.npz", key) for place in dict.fromkeys((folder, new)))
        pools[split] = next((windows for windows in cached if windows is not None), None)
        if pools[split] is None:
            stream = open_stream(config, records, backbone, split)
            logger.info("%d windows of %s (%d sequences) pass %s", count, split, len(stream.sequences), backbone.name)
            pools[split] = _computed(config, stream, backbone, count)
            save(pools[split], new / f"{split}.npz", key)
        frames[split] = _frames(pools[split])
    for first, second in itertools.combinations(SPLITS, 2):
        if common := sorted(frames[first] & frames[second]):
            raise ValueError(
                f"windows of {first} and {second} share {len(common)} frames, first {common[0]}: give windows.splits "
                "that are of different recordings or blocks of them"
            )
    return Pools(**pools)


def _computed(config: ConfigDict, stream: WindowStream, backbone: Backbone, count: int) -> WindowFeatures:
    rows = config.backbone.batch_size
    number = -(-count // rows)
    loader = make_loader(
        stream, rows, num_threads=config.data.threads, prefetch=config.data.prefetch, num_batches=number
    )
    # An iterator, since a tqdm has a length and looks like what can be gone through twice.
    batches = iter(tqdm(loader, total=number, desc="windows", unit="batch", mininterval=1))
    windows = _first(backbone.features(batches), count)
    for record, reason in stream.quarantine.reasons.items():
        logger.warning("left out %s: %s", record, reason)
    drawn = [stream.window(n) for n in range(count)]
    return dataclasses.replace(windows, names=tuple(f"{window.kind} {window.name}" for window in drawn))


def windows_of(
    stream: WindowStream, backbone: Backbone, name: str, frames: Int[np.ndarray, "w v"], batch_size: int
) -> WindowFeatures:
    """Given windows of one sequence, such as those that cover it."""
    # The last batch is filled up with its last window, so that all are of one shape and run one program.
    rows = np.minimum(np.arange(-(-len(frames) // batch_size) * batch_size), len(frames) - 1)
    batches = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *(stream.sample(name, frames[row]) for row in some))
        for some in rows.reshape(-1, batch_size)
    )
    names = [f"{name}{frames[row].tolist()}" for row in rows]
    return _first(backbone.features(batches, names), len(frames))


def _first(windows: WindowFeatures, count: int) -> WindowFeatures:
    return WindowFeatures(
        windows.features[:, :count],
        windows.camera_from_world_predicted[:, :count],
        windows.camera_from_world_true[:count],
        windows.names[:count],
    )


def kinds_of(windows: WindowFeatures) -> list[str]:
    """The kind of each window of a pool, which its name begins with."""
    return [name.split(" ", 1)[0] for name in windows.names]


def _frames(windows: WindowFeatures) -> set[tuple[str, int]]:
    """(sequence, frame) of all windows of a pool."""
    frames = set()
    for name in windows.names:
        sequence, listed = name.split(" ", 1)[1].rsplit("[", 1)
        frames |= {(sequence, int(frame)) for frame in listed.rstrip("]").split(",")}
    return frames


def _key(config: ConfigDict, records: Records, backbone: Backbone, split: str, count: int) -> dict:
    """All that a pool depends on."""
    windows = {key: value for key, value in config.windows.items() if key not in ("counts", "splits")}
    return {
        "backbone": backbone.digest,
        "records": [read_json(report.path / "build.json") for _, report in records],
        "split": config.windows.splits[SPLITS.index(split)],
        "count": count,
        "windows": windows,
    }
