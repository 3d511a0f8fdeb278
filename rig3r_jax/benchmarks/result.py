"""What a benchmark leaves: a table on screen, and JSON that names hardware, versions and the command."""

import argparse
import datetime
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from rig3r_jax.formats.json_file import write_json
from rig3r_jax.training.commit import commit

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
Row = Mapping[str, str | int | float | None]

_NUMBERS = {"family": "cpu family", "model": "model"}  # of /proc/cpuinfo
_VECTORS = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # flags of it, widest first


def environment() -> dict[str, object]:
    """Hardware, versions, commit, time and the command line, as JSON takes them."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else _processor(),
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)},
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["rig3r", *sys.argv[1:]]),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def save_result(folder: Path, name: str, settings: Mapping[str, object], rows: Sequence[Row], **more: object) -> Path:
    """Writes `folder`/`name`.json: environment, settings, rows; numbers that are not finite become null."""
    path = Path(folder) / f"{name}.json"
    content = {"benchmark": name, "environment": environment(), "settings": dict(settings), "rows": list(rows), **more}
    write_json(path, content)
    return path


def write_result(
    options: argparse.Namespace, name: str, settings: Mapping[str, object], rows: Sequence[Row], **more: object
) -> None:
    """`save_result` into --out, and its path on screen; nothing where --out is ''."""
    if options.out:
        print(f"\n{save_result(Path(options.out), name, settings, rows, **more)}")


class Record:
    """A benchmark's rows while it runs: each is on screen and in the JSON as soon as it is there."""

    def __init__(self, options: argparse.Namespace, name: str, settings: Mapping[str, object]):
        self._options, self._name, self._settings = options, name, settings
        self.rows: list[Row] = []

    def add(self, *rows: Row) -> None:
        """Prints rows in one line each, and saves all that there are."""
        self.rows += rows
        for row in rows:
            print("  ".join(f"{key} {_cell(value)}" for key, value in row.items() if value is not None), flush=True)
        self.save()

    def save(self, **more: object) -> Path | None:
        """Writes the JSON, with `more` beside the rows; nothing where --out is ''."""
        if not self._options.out:
            return None
        return save_result(Path(self._options.out), self._name, self._settings, self.rows, **more)

    def end(self, **more: object) -> None:
        """Prints the table and the path of the JSON."""
        print("", format_rows(self.rows), sep="\n")
        if path := self.save(**more):
            print(f"\n{path}")


def result_name(kind: str, options: argparse.Namespace, config_name: str) -> str:
    """--name, or kind of benchmark, config and device in one word."""
    device = jax.devices()[0]
    words = [kind, config_name, device.device_kind if device.platform != "cpu" else "cpu"]
    return options.name or re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def format_rows(rows: Sequence[Row]) -> str:
    """Rows with the same keys as an aligned table: 3 significant digits, `-` for what is absent."""
    if not rows:
        raise ValueError("a table wants at least one row")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    left = [any(isinstance(row.get(key), str) for row in rows) for key in columns]

    def line(values: Sequence[str]) -> str:
        return "  ".join(
            v.ljust(w) if to_left else v.rjust(w) for v, w, to_left in zip(values, widths, left, strict=True)
        ).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, cells)])


def _cell(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _processor() -> str:
    """The processor's name and, as a virtual machine may leave the model out of it, its numbers and widest vectors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    numbers = ", ".join(f"{key} {facts[full]}" for key, full in _NUMBERS.items() if full in facts)
    vectors = next((name for flag, name in _VECTORS.items() if flag in facts.get("flags", "").split()), "")
    beside = ", ".join(filter(None, (numbers, vectors)))
    return f"{facts['model name']} ({beside})" if beside else facts["model name"]
