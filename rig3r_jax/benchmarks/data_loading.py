"""`rig3r bench data`: records to batches, stage by stage on one thread, then the whole loader on several.

"Per core" means per second that the operating system gave to a thread of the process, whatever else the machine does
meanwhile; two hyperthreads of one core count as two, and give less each when both are busy.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.data import augment, pipeline, placement, record_source
from rig3r_jax.data.build import build_records
from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream, make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.source import check_root, options_from_words
from rig3r_jax.data.sources import make_source, source_class

TARGET = 240  # images per second that a host of 16 cores owes its 8 GPUs
HOST_CORES = 16
# Enough worlds to draw from, of enough cameras and steps for 24 views.
PROCEDURAL = {"train_worlds": 4, "test_worlds": 0, "fixed_rigs": 2, "min_cameras": 4, "max_cameras": 6, "steps": 8}

# What each stage is: (where the function is looked up, its name). Its time is its own, without that of stages inside.
STAGES: dict[str, list[tuple[object, str]]] = {
    "read bytes of records": [(record_source._Part, "_read_bytes")],
    "parse records": [(record_source._Part, "_parse"), (record_source.records, "example_to_scene")],
    "draw frames": [(pipeline, "draw_frames")],
    "decode image": [(augment, "encoded_size"), (placement, "decode_image")],
    "crop and resize image": [(augment, "place_image")],
    "decode depth": [(placement, "decode_depth")],
    "depth on the view's pixels": [(augment, "place_depth")],
    "colours": [(augment, "jitter")],
    "blur": [(augment, "blur")],
    "masks, intrinsics, copy to the sample": [(pipeline, "prepare_view")],
    "poses, metadata": [(pipeline, "make_sample")],
    "stack to a batch": [(pipeline, "stack_samples")],
}


# Stages that are one call of a library that lets other threads of Python run meanwhile.
UNLOCKED = ("read bytes of records", "decode image", "crop and resize image", "colours", "blur")


class StageClock:
    """Core-seconds by stage, those of threads that libraries start (readers of records do) included."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        self._inner = [0.0]  # seconds of the stages inside each stage that is under way

    def timed(self, stage: str, function: Callable) -> Callable:
        """The function, its time counted to `stage`."""

        def call(*args, **kwargs):
            self._inner.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - start
                self.seconds[stage] += spent - self._inner.pop()
                self._inner[-1] += spent

        return call


@contextlib.contextmanager
def stage_clock(stages: dict[str, list[tuple[object, str]]]) -> Iterator[StageClock]:
    """Times the functions of `stages` while it is open, for a process in which one thread works."""
    clock, saved = StageClock(), []
    try:
        for stage, functions in stages.items():
            for place, name in functions:
                function = getattr(place, name)
                saved.append((place, name, function))
                setattr(place, name, clock.timed(stage, function))
        yield clock
    finally:
        for place, name, function in reversed(saved):
            setattr(place, name, function)


@dataclasses.dataclass(frozen=True)
class Work:
    """Which scenes are loaded, and how."""

    source: str
    root: str
    options: dict[str, object]  # of the source
    sampling: PipelineOptions
    cache_gigabytes: float
    batch: int  # samples


def command(options: argparse.Namespace, rest: list[str]) -> int:
    """Prints the stages and the loaders, and writes the JSON."""
    if options.each is not None:
        from rig3r_jax.benchmarks import data_sources  # which measures by what is here

        return data_sources.command(options, rest)
    work = _work(options, rest)
    sampling, batch = work.sampling, work.batch
    if not options.records:
        check_root(source_class(work.source), work.root)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.records or Path(temporary) / "records")
        if not options.records:
            build_records(work.source, make_source(work.source, work.root, work.options), folder)
        records = RecordSource(folder, options.split)
        scenes = CachedSource(records, work.cache_gigabytes) if work.cache_gigabytes else records
        stream = SampleStream([(work.source, scenes, 1.0)], sampling, seed=0)
        for n in range(options.samples):
            stream[n]  # opens files, fills caches
        stages, alone = time_stages(stream, options.samples, batch)
        threads = options.threads or sorted({1, len(os.sched_getaffinity(0))})
        loaders = [time_loader(stream, options.samples, batch, count) for count in threads]
    shape = f"{sampling.num_views} views of {sampling.image_size}x{sampling.image_size}"
    title = f"{work.source}: {shape}, {options.samples} samples in batches of {batch}"
    print(f"{title}; {len(records)} records, {stream.quarantine.bad_draws} bad draws\n")
    print(format_rows(stages))
    slowest = max(stages[:-1], key=lambda row: row["ms per image"])
    print(f"\nslowest stage: {slowest['stage']}; one thread: {alone:.0f} images/s per core\n")
    print(format_rows(loaders))
    worst = min(row["images/s per core"] for row in loaders)
    held = sum(row["ms per image"] for row in stages[:-1] if row["stage"] not in UNLOCKED)
    host = HOST_CORES * worst
    times = f"{host / TARGET:.1f} times the {TARGET} that 8 GPUs want"
    print(f"\n{HOST_CORES} such cores, by the lowest of these: {host:,.0f} images/s, {times}")
    print(f"one process, on any number of threads: at most {1e3 / held:,.0f} images/s, were Python's lock held all the")
    print(f"time but for: {', '.join(UNLOCKED)}")
    settings = {"source": work.source, "options": work.options, "records": options.records, "samples": options.samples}
    settings |= {"views": sampling.num_views, "size": sampling.image_size, "batch": batch}
    settings["cache_gigabytes"] = work.cache_gigabytes
    name = options.name or f"data_{work.source}_{sampling.image_size}"
    more = {"stages": stages, "images_per_second_per_core": alone, "host_images_per_second": host}
    more |= {"one_process_at_most": 1e3 / held, "target": TARGET}
    write_result(options, name, settings, loaders, **more)
    return 0


def _work(options: argparse.Namespace, rest: Sequence[str]) -> Work:
    """What the flags say, else --config, else training at full size on procedural worlds."""
    words = [*options.options, *rest]
    flags = [word for word in words if word.startswith("-")]
    source, root, sampling, cache, batch = options.source, options.root, {}, 0.0, options.batch or 1
    settings = {}
    if flags:
        from rig3r_jax.training.flags import read_config

        config = read_config(flags)
        entry = config.data.mixture[0]
        source, root = source or entry.name, root or entry.root
        if source == entry.name:
            settings = entry.options.to_dict()
        sampling, cache, batch = config.sampling.to_dict(), config.data.cache_gigabytes, options.batch or 8
    sampling |= {key: value for key, value in (("num_views", options.views), ("image_size", options.size)) if value}
    pipeline_options = PipelineOptions(**sampling)
    source = source or "procedural"
    if source == "procedural" and not flags:
        settings = PROCEDURAL | {"image_size": pipeline_options.image_size}
    settings |= options_from_words(source_class(source), (word for word in words if word not in flags))
    return Work(source, root, settings, pipeline_options, cache, batch)


def time_stages(stream: SampleStream, samples: int, batch: int) -> tuple[list[Row], float]:
    """Core-milliseconds per image of every stage, on one thread, the last row all together; images per core-second."""
    with stage_clock(STAGES) as clock:
        start = time.process_time()
        images = sum(_images(b) for b in make_loader(stream, batch, num_threads=0, num_batches=-(-samples // batch)))
        total = time.process_time() - start
    seconds = {stage: clock.seconds[stage] for stage in STAGES}
    seconds["everything else"] = total - sum(seconds.values())
    rows = [
        {"stage": stage, "ms per image": 1e3 * spent / images, "% of all": 100 * spent / total}
        for stage, spent in (seconds | {"all": total}).items()
    ]
    return rows, images / total


def time_loader(stream: SampleStream, samples: int, batch: int, threads: int) -> Row:
    """The loader from its start to its last batch: images per second, and per core-second of the whole process."""
    batches = max(-(-samples // batch), 4 * threads)  # or the threads that finish first would wait for most of the time
    clock, core_clock = time.perf_counter(), time.process_time()
    loader = make_loader(stream, batch, num_threads=threads, prefetch=2 * threads, num_batches=batches)
    images = sum(_images(b) for b in loader)
    seconds, core_seconds = time.perf_counter() - clock, time.process_time() - core_clock
    return {
        "threads": threads,
        "images": images,
        "images/s": images / seconds,
        "cores busy": core_seconds / seconds,
        "images/s per core": images / core_seconds,
        f"of {TARGET / HOST_CORES:g}": f"{images / core_seconds / (TARGET / HOST_CORES):.1f}x",
    }


def _images(batch: pipeline.Batch) -> int:
    return batch.views.images.shape[0] * batch.views.images.shape[1]
