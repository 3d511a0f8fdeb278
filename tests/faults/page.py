"""`python -m tests.faults.page` writes docs/faults.md from the marks of the tests in this folder and tests/launch."""

from pathlib import Path

from rig3r_jax.formats.markdown import table
from tests.faults.faults import GROUPS, TITLES, Fault, faults_of

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """\
# What a run survives

Each row is a test that really does it: processes are killed, disks filled, bytes flipped. `make test-faults` runs all
of them but those with a ‡, which `make test-slurm` runs on a SLURM of their own; `make test` those without a †. Made by
`python -m tests.faults.page` from the tests in `tests/faults` and `tests/launch`.

Exit codes that a row does not name: a command that refuses its input, and a run that ends by bad data, end with 2 and
one line for each thing that is wrong, no traceback. A build ends with 2 where more of its scenes or frames are left out
than `max_bad_fraction` (0.1) allows, else with 0.
"""


def page(faults: list[Fault]) -> str:
    """The page, in Markdown: a table per group, a row per test, and what has no test."""
    parts = [HEAD]
    for group, titles in GROUPS.items():
        rows = [
            (str(fault.number), titles[fault.number], fault.what, fault.seen, fault.kept, _link(fault))
            for fault in faults
            if fault.number in titles
        ]
        if rows:
            columns = ("", "fault", "what happens", "what you see", "what is kept", "test")
            parts.append(f"## {group}\n\n{table(columns, rows, left=len(columns))}\n")
    tested = {fault.number for fault in faults}
    if untested := [f"{title} ({number})" for number, title in TITLES.items() if number not in tested]:
        parts.append(f"## Without a test\n\n{'; '.join(untested)}.\n")
    return "\n".join(parts)


def _link(fault: Fault) -> str:
    name = fault.test.removeprefix("test_").replace("_", " ")
    return f"[{name}](../tests/{fault.file}){' †' if fault.slow else ''}{' ‡' if fault.slurm else ''}"


if __name__ == "__main__":
    PAGE.write_text(page(faults_of()))
    print(f"{PAGE}: {len(faults_of())} tests")
