"""The records that a run reads: built once by process 0, found built ever after."""

import contextlib
import hashlib
import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rig3r_jax.data.build import BuildReport, build_records, build_stamp, stamp_differences
from rig3r_jax.data.record_source import read_build
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.source import Source
from rig3r_jax.data.sources import make_source
from rig3r_jax.training.checks import mixture_problems
from rig3r_jax.training.processes import is_first, on_first

logger = logging.getLogger(__name__)

Records = list[tuple[ConfigDict, BuildReport]]


def records_folder(config: ConfigDict, workdir: Path) -> Path:
    """Where built records lie: config.data.records, or inside the workdir."""
    return Path(config.data.records) if config.data.records else Path(workdir) / "records"


def build_mixture(config: ConfigDict, folder: Path, *, progress: bool = True) -> Records:
    """Builds the records of every entry with weight, or finds them built; one subfolder per source and options.

    Of many processes the first builds, and the others find what it built: they share `folder`.
    """
    return on_first(lambda: _build(config, folder, progress), then_all=True)


def build_ahead(config: ConfigDict) -> str:
    """Builds what a run of this config reads into config.data.records, where the run finds it; returns a summary.

    ValueError, naming every problem, when that cannot be done.
    """
    problems = list(mixture_problems(config))
    if not config.data.records:
        problems.append("data.records is empty: --config.data.records=FOLDER, the same for the run")
    if problems:
        raise ValueError("\n".join(problems))
    return "\n".join(report.summary() for _, report in build_mixture(config, records_folder(config, Path("."))))


def _build(config: ConfigDict, folder: Path, progress: bool) -> Records:
    built = []
    for entry in config.data.mixture:
        if entry.weight > 0:
            source = make_source(entry.name, entry.root, entry.options.to_dict())
            out = _folder_of(source, entry.name, folder)
            if not is_first() and not out.is_dir():
                raise ValueError(
                    f"process {jax.process_index()} does not see {out}, which process 0 built; "
                    "--config.data.records must be a folder on a file system that all nodes share"
                )
            if not out.is_dir():
                _name_unread(source, entry.name, out)
            built.append((entry, build_records(entry.name, source, out, progress=progress)))
    return built


def _folder_of(source: Source, name: str, folder: Path) -> Path:
    """Where the records of a source lie below `folder`: what holds them already, else a name for their stamp."""
    for path, asked in _stamps(name, folder):
        if not stamp_differences(asked, name, source):
            return path
    key = json.dumps(build_stamp(name, source), sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def _name_unread(source: Source, name: str, out: Path) -> None:
    """Warns of every folder of the source's records beside `out` that this program does not read any more."""
    read = _versions(build_stamp(name, source))
    for path, asked in _stamps(name, out.parent):
        if (versions := _versions(asked)) != read:
            logger.warning(
                f"{path}: is not read, it holds records of {versions}; this program reads {read} and builds anew, in "
                f"{out}; to delete the old ones: {shlex.join(['rm', '-r', str(path)])}"
            )


def _stamps(name: str, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of a source's records and their stamps, without those that do not read: they are not this run's."""
    for path in sorted(folder.glob(f"{name}-*")):
        with contextlib.suppress(BadRecord):
            if build := read_build(path):
                yield path, build["asked"]


def _versions(asked: Mapping[str, Any]) -> str:
    return f"format {asked.get('format')}, version {asked.get('source_version')} of the source"
