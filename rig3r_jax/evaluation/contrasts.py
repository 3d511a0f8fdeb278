"""Rows of evaluations against each other: paired differences of rates, with the intervals of `systems.resample`.

Whole samples are drawn, for both rows the same ones. They are of worlds of their own where a set has no more samples
than worlds, as the configs here have them; where it has more there are differences, without intervals.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.pose import PairErrors, rate_sums
from rig3r_jax.evaluation.rows import CLOSED_FORM, FORWARD, blank_label, has_network
from rig3r_jax.evaluation.systems.resample import Difference, difference
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import json_line, read_json_lines

RATES = ("mAA30", "RRA15", "RTA15")  # of which there are differences
PAIRS = (  # whose first row less the second a run's own table says
    ("none", blank_label("none")),
    ("all", blank_label("all")),
    ("all", CLOSED_FORM),
)
WORLDS = "worlds_per_set"  # key of evaluation.json
FILE = "evaluation_samples.jsonl"  # beside evaluation.json: a line for each set and row

Sums = Mapping[str, Float[np.ndarray, "s 2"]]  # by rate, of every sample: percent times pairs, and pairs
Sets = Mapping[str, Mapping[str, Sums]]  # by set and row
Contrast = dict[str, Difference]  # by rate: one row less another one


def sample_sums(pairs: Sequence[PairErrors], min_baseline: float) -> dict[str, Float[np.ndarray, "s 2"]]:
    """Of each rate the sum (percent times pairs) and the count (pairs) of every sample, in their order."""
    sums: dict[str, list[tuple[float, int]]] = {rate: [] for rate in RATES}
    for errors in pairs:
        fields = {name: value.reshape(-1, value.shape[-1]) for name, value in vars(errors).items()}
        for row in range(len(fields["baseline"])):
            of_sample = PairErrors(**{name: value[row] for name, value in fields.items()})
            of_rates = rate_sums(of_sample, (15,), min_baseline)
            for rate in RATES:
                sums[rate].append(of_rates[rate])
    return {rate: np.array(of_samples, np.float64).reshape(-1, 2).round(6) for rate, of_samples in sums.items()}


def contrast(less: Sums, row: Sums, worlds: int) -> Contrast:
    """`row` less the other one, over the same samples of so many worlds."""
    differences = {}
    for rate in RATES:
        (sums_less, counts_less), (sums, counts) = less[rate].T, row[rate].T
        change = difference((sums_less, sums), (counts_less, counts))
        alone = len(sums) <= worlds
        differences[rate] = change if alone else dataclasses.replace(change, low=nan, high=nan, p_value=nan)
    return differences


def within(rows: Mapping[str, Sums], worlds: int) -> dict[str, Contrast]:
    """Those of PAIRS whose rows are there, by title, of the rows of one set."""
    return {
        f"{name} - {f'({less})' if ',' in less else less}": contrast(rows[less], rows[name], worlds)
        for name, less in PAIRS
        if {name, less} <= rows.keys()
    }


def between(first: Mapping[str, Sums], second: Mapping[str, Sums], worlds: int) -> dict[str, Contrast]:
    """Each row of a trained network in the second evaluation less the same one of the first, of one set."""
    return {row: contrast(first[row], second[row], worlds) for row in second if row in first and has_network(row)}


def write_samples(sets: Sets, folder: Path) -> None:
    """The file that `read_samples` reads."""
    lines = (json_line({"set": name, "row": row, **sums}) for name, rows in sets.items() for row, sums in rows.items())
    write_atomically(folder / FILE, "".join(lines).encode())


def read_samples(folder: Path) -> dict[str, dict[str, Sums]]:
    """What an evaluation has left in its folder; ValueError naming what is missing or damaged, with the remedy."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{path}: is missing; evaluate that run first: rig3r evaluate {folder}")
    sets: dict[str, dict[str, Sums]] = {}
    for number, line in read_json_lines(path):
        try:
            sums = {rate: np.array(line[rate], np.float64).reshape(len(line[rate]), 2) for rate in RATES}
            sets.setdefault(line["set"], {})[line["row"]] = sums
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: is no row of an evaluation; evaluate that run again") from error
    return sets


def check_paired(first: Mapping[str, Sums], second: Mapping[str, Sums], where: str) -> None:
    """ValueError, beginning with `where`, if two evaluations are not of the same samples in the same order.

    Rows without a network depend on the samples alone: there must be one, and all must be equal.
    """
    controls = [row for row in (FORWARD, CLOSED_FORM) if row in first and row in second]
    if not controls:
        raise ValueError(
            f"{where}: no row without a network tells that both are of the same samples; evaluate with "
            "evaluation.baselines=True"
        )
    if not all(np.array_equal(first[row][rate], second[row][rate]) for row in controls for rate in RATES):
        raise ValueError(
            f"{where}: are not of the same samples; evaluate both on the same records, with the same sections sampling "
            "and evaluation, on as many processes"
        )


def as_json(contrasts: Mapping[str, Contrast]) -> dict[str, Any]:
    """Numbers by title and rate."""
    return {
        title: {rate: dataclasses.asdict(change) for rate, change in rates.items()}
        for title, rates in contrasts.items()
    }


def change_cells(rates: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Of one contrast of `as_json`: each rate's change with its interval, then p of the first; dashes for NaN."""
    changes = []
    for rate in RATES:
        value, low, high = (markdown.number(rates[rate][key], "+.1f") for key in ("value", "low", "high"))
        changes.append(value if low == markdown.DASH else f"{value} [{low}, {high}]")
    return [*changes, markdown.number(rates[RATES[0]]["p_value"], ".3f")]
