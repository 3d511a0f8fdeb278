"""`rig3r bench recipes RUN ...`: a metric of runs against their steps, beside what differs in their configs.

The metric is one that `train.evaluate_every` logs. What a run's config has that the first one's has not is its name.
"""

import argparse
import collections
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.training.config import flat_config, workdir_config
from rig3r_jax.training.metrics import STEPS_OF_ROW, read_metrics
from rig3r_jax.training.paths import without_places

# Keys that tell no recipe: where a run is, what it prints, when it evaluates.
_ELSEWHERE = re.compile(
    r"(name|title|notes|data\.records|train\.(log|checkpoint|evaluate|keep|event).*|evaluation\..*)"
)


def command(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints a row per run and writes the JSON."""
    runs = [Path(run) for run in options.runs]
    configs = [flat_config(workdir_config(run)) for run in runs]
    rows: list[Row] = []
    for run, config in zip(runs, configs, strict=True):
        metrics = read_metrics(run / "metrics.jsonl")
        curve = {row["step"]: row[options.metric] for row in metrics if options.metric in row}
        if not curve:
            logged = sorted({key for row in metrics for key in row if key.startswith("evaluation/")})
            raise ValueError(
                f"{run}: its metrics.jsonl has no {options.metric}; it has {', '.join(logged) or 'no evaluation'}: "
                "give one of these as --metric, or train with train.evaluate_every"
            )
        changed = "first" if run == runs[0] else changes(configs[0], config)
        rows.append({"recipe": changed, "s/step": seconds_per_step(metrics)} | {f"{k:,}": v for k, v in curve.items()})
    print(f"{options.metric} after so many steps; recipes as changes of {runs[0]}\n")
    print(format_rows(rows))
    settings = {"metric": options.metric, "first": without_places(configs[0])}
    write_result(options, options.name or "recipes", settings, rows)
    return 0


def changes(first: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What of a config is not as in the first one: key=value, or the key alone where the config has it no more."""
    keys = [key for key in {**first, **config} if first.get(key) != config.get(key) and not _ELSEWHERE.match(key)]
    names = _short(keys)
    differing = [f"{names[key]}={config[key]}" if key in config else f"no {names[key]}" for key in keys]
    return ", ".join(differing) or "the same"


def _short(keys: Sequence[str]) -> dict[str, str]:
    """The last words of keys, or whole keys where several end alike."""
    ends = collections.Counter(key.rpartition(".")[2] for key in keys)
    return {key: end if ends[end := key.rpartition(".")[2]] == 1 else key for key in keys}


def seconds_per_step(metrics: Sequence[Mapping[str, Any]]) -> float:
    """Of all steps of the rows that say how fast they were, evaluations left out; NaN where none does."""
    timed = [row for row in metrics if row.get("speed/steps_per_second")]
    steps = sum(row[STEPS_OF_ROW] for row in timed)
    return sum(row[STEPS_OF_ROW] / row["speed/steps_per_second"] for row in timed) / steps if steps else math.nan
