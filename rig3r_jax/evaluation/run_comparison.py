"""Two evaluated runs against each other: `rig3r evaluate --compare RUN RUN`, from the files of their evaluations."""

import dataclasses
from pathlib import Path

from rig3r_jax.evaluation.contrasts import (
    FILE,
    RATES,
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
from rig3r_jax.formats.json_file import write_json


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """The second run less the first, and the second run's own rows against each other, of every set of both."""

    names: tuple[str, str]
    samples: tuple[Sets, Sets]
    between: dict[str, dict[str, Contrast]]  # by set and row
    within: dict[str, dict[str, Contrast]]  # by set and title


def is_evaluated(folder: Path) -> bool:
    """Whether `read_samples` finds the file of an evaluation there."""
    return (folder / FILE).is_file()


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compares two folders in which an evaluation of a run has left its files.

    Raises:
        ValueError: one holds none, or they have no set in common, or are not of the same samples.
    """
    samples = read_samples(first), read_samples(second)
    common = [name for name in samples[1] if name in samples[0]]
    where = f"{first} and {second}"
    if not common:
        of_each = " and ".join(", ".join(sets) for sets in samples)
        raise ValueError(f"{where}: have no set in common ({of_each}); evaluate both on the same evaluation.sets")
    for name in common:
        check_paired(samples[0][name], samples[1][name], f"{where}: {name}")
    return RunComparison(
        (str(first), str(second)),
        samples,
        {name: between(samples[0][name], samples[1][name]) for name in common},
        {name: within(samples[1][name]) for name in common},
    )


def to_markdown(comparison: RunComparison) -> str:
    """A table of both runs' rows, and one of the second run's own, for every set."""
    first, second = comparison.names
    lines = [
        f"# {second} less {first}",
        "",
        "Percent of pairs. In brackets 95% bootstrap intervals: the same samples are drawn for both. p: of mAA30, by "
        "swapping the results of samples.",
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
