"""What the runs of a study are evaluated on: the same frames for all, as protocols."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.sampling import can_fill
from rig3r_jax.data.source import Scenes, Source
from rig3r_jax.evaluation.protocol import Protocol, Rules, read_protocol
from rig3r_jax.evaluation.protocol_make import drawn_sample
from rig3r_jax.training.records import Records, records_at
from rig3r_jax.training.rig3r.elsewhere import protocol_source


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Frames that every run is shown, and where they are read."""

    protocol: Protocol
    source: Source

    @property
    def name(self) -> str:
        return self.protocol.name


@dataclasses.dataclass(frozen=True)
class RecordedScenes(Source):
    """The scenes of a folder of records, its root."""

    def scenes(self, split: str) -> Scenes:
        """See `Source`; every record is read once, but none of its images."""
        records = RecordSource(self.root, split)
        numbers = range(len(records))
        return [(records[number].name, functools.partial(records.__getitem__, number)) for number in numbers]


def sets_at(paths: Sequence[Path], root: str, config: ConfigDict) -> list[EvaluationSet]:
    """Of files of protocols, whose raw data is below `root`, and of folders of records."""
    sets = []
    for path in paths:
        if path.is_dir():
            sets += recorded_sets(records_at(path), config)
        else:
            protocol = read_protocol(path)
            sets.append(EvaluationSet(protocol, protocol_source(protocol, root)))
    return sets


def recorded_sets(records: Records, config: ConfigDict) -> list[EvaluationSet]:
    """Of the splits `evaluation.sets` of records, as many samples as `evaluation.samples` of each, spread over all
    scenes, drawn as `config.sampling` says by `evaluation.seed`. ValueError where a split is in no records."""
    sets = []
    for split in config.evaluation.sets:
        of_split = [(entry, report.path) for entry, report in records if report.splits.get(split)]
        if not of_split:
            available = sorted({split for _, report in records for split, count in report.splits.items() if count})
            raise ValueError(f"evaluation.sets: no records have the split {split!r}; they have {', '.join(available)}")
        for entry, path in of_split:
            name = split if len(of_split) == 1 else f"{entry.name} {split}"
            source = RecordedScenes(str(path))
            sets.append(EvaluationSet(_drawn(name, entry, split, source, config), source))
    return sets


def _drawn(name: str, entry: ConfigDict, split: str, source: RecordedScenes, config: ConfigDict) -> Protocol:
    draw = PipelineOptions(**config.sampling.to_dict()).for_evaluation().draw()
    scenes = [(scene, load) for scene, load in source.scenes(split) if can_fill(load(), **draw)]
    if not scenes:
        raise ValueError(f"{source.root}: no scene of {split} can fill sampling.num_views={config.sampling.num_views}")
    count, seed = config.evaluation.samples, config.evaluation.seed
    spread = np.linspace(0, len(scenes) - 1, min(count, len(scenes))).round().astype(int)
    samples = []
    for place in range(count):
        scene, load = scenes[spread[place % len(spread)]]
        samples.append(drawn_sample(load(), scene, draw, seed, place // len(spread)))
    samples.sort(key=lambda sample: (sample.scene, sample.number))  # scenes that follow one another are read once
    rules = _rules(draw, config.evaluation.min_baseline, -(-count // len(spread)))
    return Protocol(name, entry.name, split, entry.options.to_dict(), seed, rules, tuple(samples))


def _rules(draw: Mapping[str, Any], min_baseline: float, samples_per_scene: int) -> Rules:
    """How samples are drawn, as far as a protocol can say it."""
    cameras = [cameras for _, cameras in draw["grids"]] or [draw["min_cameras"], draw["max_cameras"]]
    return Rules(
        views=draw["num_views"],
        min_cameras=min(cameras),
        max_cameras=max(cameras),
        max_stride=draw["max_stride"],
        min_seconds=draw["min_seconds"],
        max_seconds=draw["max_seconds"],
        samples_per_scene=samples_per_scene,
        min_baseline=min_baseline,
    )
