"""The records that a run reads: built once by process 0, found built ever after."""

import hashlib
import json
import logging
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rig3r_jax.data.build import BuildReport, build_records
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
            options = entry.options.to_dict()
            out = folder / _folder_name(make_source(entry.name, entry.root, options), entry.name)
            if not is_first() and not out.is_dir():
                raise ValueError(
                    f"process {jax.process_index()} does not see {out}, which process 0 built; "
                    "--config.data.records must be a folder on a file system that all nodes share"
                )
            built.append((entry, build_records(entry.name, entry.root, out, options, progress=progress)))
    return built


def _folder_name(source: Source, name: str) -> str:
    """One name for equal options, which an option that is new in the source does not change."""
    defaults = type(source)().options()
    changed = {key: value for key, value in source.options().items() if value != defaults[key]}
    key = json.dumps([source.root and str(Path(source.root).resolve()), changed], sort_keys=True)
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
