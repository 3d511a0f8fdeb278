"""The numbers of a study with their intervals over worlds: rows for JSON, Markdown for people."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.benchmarks.result import Row, save_result
from rig3r_jax.evaluation.systems.resample import Difference, Interval, difference, interval
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.studies.runner import Run
from rig3r_jax.studies.scores import KEYS, LOSS, Worlds

LEGEND = (
    "In brackets: 95% bootstrap intervals over worlds; of differences the same worlds are drawn for both runs, each of "
    "which is one training: rows that differ from the base by the seed alone show what that is worth. loss: of the "
    "geometry alone, all weights and the confidence 1, in mean depths (lower is better). -: nothing to measure."
)
_LENGTHS = (LOSS, "chamfer_m", "ATE_m")  # the other scores are percents
_SHOWN = {"mAA30": ".1f", "rig_mAA30": ".1f", LOSS: ".3f"}  # scores of the tables, and their formats


def number_of(run: Run, name: str, setting: str, key: str) -> Interval:
    """A score of a run on a set, with its interval; NaN where the run has none."""
    sums, weights = _by_world(_worlds(run, name, setting, key))
    number, most = interval(sums, weights), np.inf if key in _LENGTHS else 100.0
    low, high = np.clip([number.low, number.high], 0.0, most)
    return dataclasses.replace(number, low=float(low), high=float(high))


def difference_of(run: Run, base: Run, name: str, setting: str, key: str) -> Difference:
    """The run's score less the base's, over the worlds that both have a number of."""
    ours, theirs = (_worlds(one, name, setting, key) for one in (run, base))
    worlds = sorted(ours.keys() & theirs.keys())
    (sums, weights), (base_sums, base_weights) = (_by_world(of_run, worlds) for of_run in (ours, theirs))
    return difference((base_sums, sums), (base_weights, weights))


def score_rows(runs: Sequence[Run], sets: Sequence[str], settings: Sequence[str], base: Run | None = None) -> list[Row]:
    """Every score of every run, a row each; beside those of `base` their differences from it."""
    rows = []
    for run in runs:
        for name in sets:
            for setting in settings:
                for key in KEYS:
                    number = number_of(run, name, setting, key)
                    row: dict[str, str | int | float | None] = {
                        "set": name, "variant": run.name, "setting": setting, "score": key, "value": number.value,
                        "low": number.low, "high": number.high, "worlds": number.scenes,
                    }  # fmt: skip
                    if base is not None and run is not base:
                        change = difference_of(run, base, name, setting, key)
                        row |= {
                            "difference": change.value, "difference_low": change.low, "difference_high": change.high,
                            "p_value": change.p_value,
                        }  # fmt: skip
                    rows.append(row)
    return rows


def score_table(runs: Sequence[Run], name: str, settings: Sequence[str], base: Run | None = None) -> str:
    """Markdown: a line per run on one set; with a base a column of differences beside each score."""
    titles, columns = ["run"], []
    for setting in settings:
        for key, spec in _SHOWN.items():
            titles.append(f"{key} {setting}")
            columns.append(_number_cell(name, setting, key, spec))
            if base is not None:
                titles.append(f"less {base.name}")
                columns.append(_difference_cell(base, name, setting, key, spec))
    return markdown.table(titles, [[run.name, *(cell(run) for cell in columns)] for run in runs])


def write_study(out: Path, name: str, text: str, settings: Mapping[str, object], rows: Sequence[Row], **more) -> None:
    """`out`/`name`.md and .json, as benchmarks write theirs; the text is printed, with the paths."""
    write_atomically(out / f"{name}.md", text.encode())
    path = save_result(out, name, settings, rows, **more)
    print(f"\n{text}\n{out / f'{name}.md'}\n{path}", flush=True)


def _number_cell(name: str, setting: str, key: str, spec: str) -> Callable[[Run], str]:
    return lambda run: with_interval(number_of(run, name, setting, key), spec)


def _difference_cell(base: Run, name: str, setting: str, key: str, spec: str) -> Callable[[Run], str]:
    return lambda run: "" if run is base else with_interval(difference_of(run, base, name, setting, key), f"+{spec}")


def with_interval(number: Interval | Difference, spec: str) -> str:
    """A number with its interval in brackets, where it has one."""
    if math.isnan(number.value) or math.isnan(number.low):
        return markdown.number(number.value, spec)
    return f"{number.value:{spec}} [{number.low:{spec}}, {number.high:{spec}}]"


def _worlds(run: Run, name: str, setting: str, key: str) -> Worlds:
    return run.scores.sets[name][setting][key] if run.scores is not None and run.scores.sets else {}


def _by_world(
    of_worlds: Worlds, worlds: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Sums and weights, by default of all worlds by name."""
    pairs = [of_worlds[world] for world in (sorted(of_worlds) if worlds is None else worlds)]
    sums, weights = np.array(pairs, np.float64).reshape(-1, 2).T
    return sums, weights
