"""Two evaluated runs against each other: `rig3r evaluate --compare RUN RUN`, from the files of their evaluations."""

import dataclasses
import typing
from pathlib import Path

from rig3r_jax.evaluation.contrasts import (
    FILE,
    RATES,
    WORLDS,
    Contrast,
    Sets,
    Sums,
    as_json,
    between,
    change_cells,
    check_paired,
    read_samples,
    within,
)
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import read_json, write_json


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """The second run less the first, and the second run's own rows against each other, of every set of both."""

    names: tuple[str, str]  # folder and step
    samples: tuple[Sets, Sets]
    between: dict[str, dict[str, Contrast]]  # by set and row
    within: dict[str, dict[str, Contrast]]  # by set and title


def is_evaluated(folder: Path) -> bool:
    """Whether `read_samples` finds the file of an evaluation there."""
    return (folder / FILE).is_file()


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compares two folders in which an evaluation of a run has left its files.

    Raises:
        ValueError: one holds none, or they have no set in common, or are not of the same samples by the same rules.
    """
    samples = read_samples(first), read_samples(second)
    (step, rules), (other_step, other_rules) = map(_about, (first, second))
    common = [name for name in samples[1] if name in samples[0]]
    where = f"{first} and {second}"
    if not common:
        of_each = " and ".join(", ".join(sets) for sets in samples)
        raise ValueError(f"{where}: have no set in common ({of_each}); evaluate both on the same evaluation.sets")
    for key in rules.keys() | other_rules.keys():
        if key != WORLDS and rules.get(key) != other_rules.get(key):
            raise ValueError(
                f"{where}: {key} is {rules.get(key)} and {other_rules.get(key)}; evaluate both with the same section "
                "evaluation"
            )
    for name in common:
        check_paired(samples[0][name], samples[1][name], f"{where}: {name}")
    worlds = {name: other_rules[WORLDS][name] for name in common}
    return RunComparison(
        (f"{first}, step {step}", f"{second}, step {other_step}"),
        samples,
        {name: between(samples[0][name], samples[1][name], worlds[name]) for name in common},
        {name: within(samples[1][name], worlds[name]) for name in common},
    )


def _about(folder: Path) -> tuple[int, dict[str, typing.Any]]:
    """Step of an evaluation, and the rules that it was made by. ValueError for a file of an earlier version."""
    path = folder / "evaluation.json"
    evaluation = read_json(path) if path.is_file() else {}
    if "step" not in evaluation or WORLDS not in evaluation:
        raise ValueError(f"{path}: does not say how it was made; evaluate that run again: rig3r evaluate {folder}")
    return evaluation["step"], {key: evaluation[key] for key in evaluation.keys() - {"step", "sets", "differences"}}


def to_markdown(comparison: RunComparison) -> str:
    """A table of both runs' rows, and one of the second run's own, for every set."""
    first, second = comparison.names
    lines = [
        f"# {second} less {first}",
        "",
        "Percent of pairs. In brackets 95% bootstrap intervals: the same samples are drawn for both; without them "
        "where several samples are of one world. p: of mAA30, by swapping the results of samples. Each run is one "
        "training: what another seed would have changed is in neither.",
        "",
    ]
    for name, rows in comparison.between.items():
        of_set = [sets[name] for sets in comparison.samples]
        titles = ["row", f"{first}: {RATES[0]}", f"{second}: {RATES[0]}", *(f"{rate}, change" for rate in RATES), "p"]
        numbers = {row: [f"{_rate(sums[row], RATES[0]):.1f}" for sums in of_set] for row in rows}
        body = [[row, *numbers[row], *change_cells(changes)] for row, changes in as_json(rows).items()]
        lines += [f"## {name}", "", markdown.table(titles, body), ""]
        if own := as_json(comparison.within[name]):
            titles = [f"{second}, row less row", *RATES, "p"]
            lines += [markdown.table(titles, [[title, *change_cells(changes)] for title, changes in own.items()]), ""]
    return "\n".join(lines)


def write_comparison(comparison: RunComparison, out: Path) -> None:
    """comparison.json and comparison.md."""
    runs = dict(zip(("first", "second"), comparison.names, strict=True))
    parts = {"between": comparison.between, "within_second": comparison.within}
    content = {key: {name: as_json(rows) for name, rows in part.items()} for key, part in parts.items()}
    write_json(out / "comparison.json", runs | content)
    write_atomically(out / "comparison.md", to_markdown(comparison).encode())


def _rate(sums: Sums, rate: str) -> float:
    total, count = sums[rate].sum(axis=0)
    return float(total / count) if count else float("nan")
