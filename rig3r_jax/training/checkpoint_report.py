"""The state of all checkpoints of a workdir, whole, damaged or left over; nothing is changed."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.formats.json_file import read_json
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.checkpoint_sums import Damaged, verify
from rig3r_jax.training.os_errors import explain


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is said of one folder."""

    place: Path
    text: str
    damaged: bool = False


def examine(workdir: Path) -> list[Finding]:
    """Findings on every checkpoint of a workdir and of its second place, if that is a folder.

    Raises:
        FileNotFoundError: the workdir is none, or has no checkpoint.
    """
    folder = Path(workdir).resolve() / "checkpoints"
    if not folder.is_dir() or not any(folder.iterdir()):
        raise FileNotFoundError(f"{folder} holds no checkpoint; train first: rig3r train --config=... --workdir=...")
    findings = list(_of_folder(folder))
    with contextlib.suppress(FileNotFoundError):
        copies = read_json(Path(workdir) / "config.json").get("train", {}).get("copy_checkpoints_to", "")
        if "://" in copies:
            findings.append(Finding(folder, f"copies in {copies} are not looked at: fetch that folder, and examine it"))
        elif copies:
            findings += _of_folder(Path(copies))
    return findings


def _of_folder(folder: Path) -> Iterator[Finding]:
    steps = saved_steps(folder)
    for step in steps:
        started = time.perf_counter()
        try:
            size = verify(folder / str(step))
        except (Damaged, OSError) as error:
            if not (folder / str(step)).exists():  # deleted meanwhile, by a run that goes on
                continue
            yield Finding(folder / str(step), f"damaged: {explain(error)}", damaged=True)
            continue
        seconds = time.perf_counter() - started
        if size is None:
            yield Finding(folder / str(step), "of a version without checksums: cannot be checked")
        else:
            yield Finding(folder / str(step), f"whole: {size / 1e6:,.1f} MB, checked in {seconds:.1f} s")
    if not steps:
        yield Finding(folder, "no step", damaged=True)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if ".damaged" in path.name:
            size = sum(os.path.getsize(file) for file in path.rglob("*") if file.is_file())
            yield Finding(path, f"was set aside, {size / 1e6:,.1f} MB; delete it once nothing in it is wanted")
