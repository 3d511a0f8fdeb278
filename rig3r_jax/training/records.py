"""The records that a run reads: built once by process 0, found built ever after."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rig3r_jax.data.build import BuildReport, Share, build_records, build_stamp, built_report, stamp_differences
from rig3r_jax.data.record_source import other_format, read_build
from rig3r_jax.data.records import FORMAT_VERSION
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.source import Source
from rig3r_jax.data.sources import make_source
from rig3r_jax.training.checks import is_skipped, mixture_problems
from rig3r_jax.training.processes import is_first, on_first

logger = logging.getLogger(__name__)

Records = list[tuple[ConfigDict, BuildReport]]


def records_folder(config: ConfigDict, workdir: Path) -> Path:
    """Where built records lie: config.data.records, or inside the workdir."""
    return Path(config.data.records) if config.data.records else Path(workdir) / "records"


def ready_entries(config: ConfigDict, folder: Path) -> frozenset[int]:
    """The entries of data.mixture whose records are built below `folder`; one that is no source's is not."""
    ready = set()
    for index, entry in enumerate(config.data.mixture):
        with contextlib.suppress(ValueError):
            source = make_source(entry.name, entry.root, entry.options.to_dict())
            if _folder_of(source, entry.name, folder)[1].is_dir():
                ready.add(index)
    return frozenset(ready)


def build_mixture(config: ConfigDict, folder: Path, *, progress: bool = True, build: bool = True) -> Records:
    """Builds the records of every entry with weight, or finds them built; one subfolder per source and options.

    Of many processes the first builds, and the others find what it built: they share `folder`.

    Raises:
        ValueError: data that cannot be used; without `build` records that are not there, with the command for them.
    """
    share = Share(workers=config.data.build_workers)
    return on_first(lambda: _build(config, folder, progress, build, share), then_all=True)


def records_at(folder: Path) -> Records:
    """The records of one folder of `rig3r build-data`, whichever run they are of.

    ValueError where the folder holds none, or those of another format.
    """
    build = read_build(folder)
    if build is None:
        raise ValueError(f"{folder}: holds no records (no build.json); give a folder that `rig3r build-data` wrote")
    asked = build["asked"]
    if asked.get("format") != FORMAT_VERSION:
        raise ValueError(other_format(folder, asked))
    entry = {"name": asked["source"], "root": asked.get("root") or "", "weight": 1.0, "options": asked["options"]}
    return [(ConfigDict(entry), built_report(folder, build))]


def build_ahead(config: ConfigDict, share: Share = Share()) -> str:  # noqa: B008 (frozen)
    """Builds what a run of this config reads, or a shard of it, into config.data.records, where the run finds it;
    returns a summary.

    ValueError, naming every problem, when that cannot be done.
    """
    problems = list(mixture_problems(config, ready_entries(config, records_folder(config, Path(".")))))
    if not config.data.records:
        problems.append("data.records is empty: --config.data.records=FOLDER, the same for the run")
    if problems:
        raise ValueError("\n".join(problems))
    built = _build(config, records_folder(config, Path(".")), True, True, share)
    return "\n".join(report.summary() for _, report in built)


def _build(config: ConfigDict, folder: Path, progress: bool, build: bool, share: Share) -> Records:
    built, ready = [], ready_entries(config, folder)
    for index, entry in enumerate(config.data.mixture):
        if entry.weight > 0 and not is_skipped(config, index, ready):
            source = make_source(entry.name, entry.root, entry.options.to_dict())
            source, out = _folder_of(source, entry.name, folder)
            if not is_first() and not out.is_dir():
                raise ValueError(
                    f"process {jax.process_index()} does not see {out}, which process 0 built; "
                    "--config.data.records must be a folder on a file system that all nodes share"
                )
            if not out.is_dir():
                if not build:
                    raise ValueError(_absent(source, entry.name, out))
                _name_unread(source, entry.name, out)
            report = build_records(entry.name, source, out, config.data.max_bad_fraction, progress, share)
            built.append((entry, report))
    return built


def _folder_of(source: Source, name: str, folder: Path) -> tuple[Source, Path]:
    """Where the records of a source lie below `folder`: what holds them already, else a name for their stamp.

    A source whose raw data are nowhere (no root is given) is that of the records with its options, where they are of
    one root; it is returned with it.
    """
    roots = {}
    for path, asked in _stamps(name, folder):
        differences = stamp_differences(asked, name, source)
        if not differences:
            return source, path
        if differences.keys() == {"root"}:
            roots[asked["root"]] = path
    if source.needs_root and not source.root and len(roots) == 1:
        ((root, path),) = roots.items()
        return dataclasses.replace(source, root=root), path
    key = json.dumps(build_stamp(name, source), sort_keys=True)
    return source, folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def _absent(source: Source, name: str, out: Path) -> str:
    """That the records of a source are nowhere, where they may be, and the command that builds them."""
    defaults = type(source)().options()
    changed = [f"{key}={value}" for key, value in source.options().items() if value != defaults[key]]
    root = ["--root", str(source.root)] if source.root else []
    command = shlex.join(["rig3r", "build-data", name, *root, "--out", str(out), *changed])
    others = [f"{path} holds {_versions(asked)}" for path, asked in _stamps(name, out.parent)]
    beside = f" ({'; '.join(others)})" if others else ""
    return (
        f"{out.parent}: holds no records of {name} as this run reads them{beside}; if they have moved give their "
        f"folder: --records FOLDER; to build them: {command}"
    )


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
