"""Sweeps: tests of half a minute and more, at full size or in one more precision among them; run when what they cover
has changed.

`@pytest.mark.sweep(PATH, ...)` names files and folders that a test covers, from the top folder. `make test-sweep` runs
every sweep and notes in tests/sweeps.json, for each that passed, a hash of those files, of the test's own and of what
every test hangs on (EVERY). Other runs leave a sweep out as long as its hash is the noted one.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

RUN_ALL = os.environ.get("RIG3R_SWEEP") == "1"
EVERY = ("constraints.txt", "tests/conftest.py", "tests/batches.py", "rig3r_jax/schema.py", "rig3r_jax/formats")

# What training goes through, whatever is trained.
OF_A_RUN = tuple(f"rig3r_jax/{layer}" for layer in ("data", "evaluation", "geometry", "losses", "models", "training"))


def fingerprint(repo: Path, paths: Iterable[str]) -> str:
    """A hash of the files at these paths and below, by name and content; ValueError for a path that is not there."""
    digest = hashlib.sha256()
    for path in sorted({*paths, *EVERY}):
        place = repo / path
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        if not files:
            raise ValueError(f"a sweep covers {path}, where no file is")
        for file in files:
            digest.update(f"{file.relative_to(repo).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def noted(repo: Path) -> dict[str, str]:
    """The fingerprints with which sweeps have passed, by test."""
    path = _record(repo)
    return json.loads(path.read_text()) if path.is_file() else {}


def note(repo: Path, fingerprints: Mapping[str, str]) -> None:
    """Notes those of sweeps that have passed, and drops tests whose file is gone."""
    kept = {test: value for test, value in noted(repo).items() if (repo / test.partition("::")[0]).is_file()}
    _record(repo).write_text(json.dumps({**kept, **fingerprints}, indent=1, sort_keys=True) + "\n")


def _record(repo: Path) -> Path:
    return repo / "tests" / "sweeps.json"
