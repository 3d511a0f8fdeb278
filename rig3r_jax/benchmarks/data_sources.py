"""`rig3r bench data --each`: images per second and core that the loader makes of every data set."""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rig3r_jax.benchmarks.data_loading import HOST_CORES, PROCEDURAL, TARGET, Work, time_stages
from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.data.build import build_records
from rig3r_jax.data.fitting import FittingScenes
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.source import check_root, filled_options
from rig3r_jax.data.sources import make_source, source_class

_VIEWS = (24, 16, 9, 6, 4, 2, 1)  # tried for scenes that are too small for more


def command(options: argparse.Namespace, flags: Sequence[str]) -> int:
    """Prints a line per data set and writes the JSON; ValueError where none could be measured."""
    rows, failures = [], []
    for work in _works(options, flags):
        try:
            rows.append(_measure(work, options.split, options.samples))
        except ValueError as error:
            failures.append(f"{work.source}: not measured: {error}")
    if not rows:
        raise ValueError("\n".join(failures) or "no data set of the mixture has a root")
    print(format_rows(rows))
    goal = TARGET / HOST_CORES
    print(f"\n{TARGET} images/s on a host of {HOST_CORES} cores are {goal:g} per core")
    for row in rows:
        if row["images/s per core"] < goal:
            print(f"{row['source']}: below that, most of the time goes to: {row['slowest stage']}")
    if failures:
        print("\n".join(failures))
    settings = {"samples": options.samples, "views": options.views, "size": options.size, "split": options.split}
    write_result(options, options.name or "data_sources", settings, rows, not_measured=failures, target=goal)
    return 0


def _works(options: argparse.Namespace, flags: Sequence[str]) -> Iterator[Work]:
    """The data sets NAME or NAME=ROOT of --each, or those of the config's mixture that have what they need."""
    sampling = {"num_views": options.views or _VIEWS[0], "image_size": options.size or 512}
    if options.each:
        for word in options.each:
            name, _, root = word.partition("=")
            check_root(source_class(name), root)
            settings = PROCEDURAL | {"image_size": sampling["image_size"]} if name == "procedural" else {}
            yield Work(name, root, filled_options(source_class(name), settings), PipelineOptions(**sampling), 0.0, 1)
        return
    if not flags:
        raise ValueError("--each wants data sets, such as --each procedural ddad=/data/ddad, or --config of a run")
    from rig3r_jax.training.flags import read_config

    config = read_config(flags)
    overrides = {"num_views": options.views, "image_size": options.size}
    sampling = config.sampling.to_dict() | {key: value for key, value in overrides.items() if value}
    for entry in config.data.mixture:
        if entry.weight > 0 and not entry.root and source_class(entry.name).needs_root:
            print(f"{entry.name}: not measured: it has no root", file=sys.stderr)
        elif entry.weight > 0:
            yield Work(entry.name, entry.root, entry.options.to_dict(), PipelineOptions(**sampling), 0.0, 1)


def _measure(work: Work, split: str, samples: int) -> Row:
    """One thread's loading of samples with as many views as scenes of the data set have."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "records"
        report = build_records(work.source, make_source(work.source, work.root, work.options), folder)
        splits = [name for name, count in report.splits.items() if count]
        split = split if split in splits else splits[0]  # a set without that split is measured all the same
        records = RecordSource(folder, split)
        scenes, sampling = _fitting(records, work.sampling)
        stream = SampleStream([(work.source, scenes, 1.0)], sampling, seed=0)
        for n in range(samples):
            stream[n]  # opens files
        stages, per_second = time_stages(stream, samples, work.batch)
    slowest = max(stages[:-1], key=lambda row: row["ms per image"])
    height, width = records[0].cameras[records[0].front_camera].size
    return {
        "source": work.source,
        "scenes": len(scenes),
        "views": sampling.num_views,
        "stored": f"{width}x{height}",
        "size": sampling.image_size,
        "images/s per core": per_second,
        f"of {TARGET / HOST_CORES:g}": f"{per_second / (TARGET / HOST_CORES):.1f}x",
        "slowest stage": f"{slowest['stage']} ({slowest['% of all']:.0f}%)",
        "split": split,
    }


def _fitting(records: RecordSource, sampling: PipelineOptions) -> tuple[FittingScenes, PipelineOptions]:
    """The scenes that fill the most views, at most those asked for, and the options with that number."""
    for views in (sampling.num_views, *(views for views in _VIEWS if views < sampling.num_views)):
        options = dataclasses.replace(sampling, num_views=views)
        if len(scenes := FittingScenes(records, options)):
            return scenes, options
    raise ValueError(f"no scene has an image of its front camera, as {sampling.draw()} wants")
