"""Whether the processes of a run are of one run: the same config, program and records on each.

Processes that differ would compute different steps, or wait for each other in different collectives for ever.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import rig3r_jax
from rig3r_jax.formats.json_file import plain
from rig3r_jax.training.config import flat_config
from rig3r_jax.training.processes import ReportedElsewhere, gather, is_first
from rig3r_jax.training.records import records_folder

_LISTED = 5  # differences that a message lists
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def check_program(config: ConfigDict, workdir: Path) -> None:
    """Compares the config, the workdir and the program of all processes; of one process does nothing.

    Raises:
        ValueError: on the first process, one line with what differs; on the others ReportedElsewhere.
    """
    if jax.process_count() > 1:
        versions = {f"version of {name}": importlib.metadata.version(name) for name in _LIBRARIES}
        versions |= {"version of Python": platform.python_version(), "digest of the package": _digest_of_package()}
        _check({**flat_config(config), "--workdir": str(Path(workdir).absolute()), **versions})


def check_records(config: ConfigDict, workdir: Path) -> None:
    """Compares what all processes see as the records of the run, whose build.json holds sizes and digests of files."""
    if jax.process_count() > 1:
        folder = records_folder(config, workdir)
        files = sorted(folder.glob("*/build.json"))
        _check({str(file): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files})


def _check(ours: Mapping[str, Any]) -> None:
    """Raises where not all processes have the same values under the same names."""
    everybody = [dict(json.loads(text)) for text in gather(json.dumps(plain(ours)))]
    if lines := differences(everybody):
        if not is_first():
            raise ReportedElsewhere("processes differ")
        more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        raise ValueError(
            f"the processes of this run differ: {'; '.join(lines[:_LISTED] + more)}; start all with one command, "
            "of one installation, on one set of records"
        )


def differences(everybody: list[Mapping[str, Any]]) -> list[str]:
    """A line for every name under which a process has another value than the first: of the first such process."""
    lines, first = [], everybody[0]
    for name in dict.fromkeys(name for values in everybody for name in values):
        for number, values in enumerate(everybody):
            if values.get(name) != first.get(name):
                lines.append(f"{name} is {values.get(name)!r} on process {number}, {first.get(name)!r} on process 0")
                break
    return lines


def _digest_of_package() -> str:
    """Of the source files of this package."""
    folder, digest = Path(rig3r_jax.__file__).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
