"""A process that saves checkpoints and is killed by SIGKILL at a chosen moment inside a save."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from unittest import mock

import jax

from rig3r_jax.training import checkpoint_keep, checkpoint_save
from rig3r_jax.training.checkpoint import Checkpoints
from tests.checkpoints import position_of, state_of

# The server imports all of this once; each process is forked from it, before jax starts.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.dying"])

# By name: (module, function at whose call the process dies), or milliseconds after the save has begun.
MOMENTS = {
    "as it begins": 0,
    "2 ms after": 2,
    "10 ms after": 10,
    "arrays on the disk, without checksums": (checkpoint_save, "sums"),
    "before the parts are merged": (checkpoint_save.Save, "_commit"),
    "before SHA256SUMS": (checkpoint_save, "write_sums"),
    "before the rename that commits": (os, "rename"),
    "before the old step goes": (checkpoint_keep, "prune"),
    "half of the old step gone": (shutil, "rmtree"),
}


def killed_while_saving(workdir: Path, step: int, moment: str) -> int:
    """The exit code of a process that is killed while it saves this step, of which one checkpoint is kept."""
    process = _CONTEXT.Process(target=_save_and_die, args=(workdir, step, moment))
    process.start()
    process.join(120)
    return process.exitcode


def _save_and_die(workdir: Path, step: int, moment: str) -> None:
    checkpoints, state, when = Checkpoints(workdir, 1), jax.block_until_ready(state_of(step)), MOMENTS[moment]
    if isinstance(when, int):
        threading.Thread(target=_die_after, args=[when / 1000], daemon=True).start()
    elif when == (shutil, "rmtree"):  # as checkpoint_keep calls it, with files in the folder
        mock.patch.object(checkpoint_keep.shutil, "rmtree", _delete_half_and_die).start()
    elif when == (checkpoint_keep, "prune"):
        mock.patch("rig3r_jax.training.checkpoint.prune", _die).start()
    elif when == (os, "rename"):
        mock.patch.object(checkpoint_save.os, "rename", _die).start()
    else:
        mock.patch.object(*when, _die).start()
    checkpoints.save(step, state, position_of(step))
    checkpoints.wait()


def _die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after(seconds: float) -> None:
    time.sleep(seconds)
    _die()


def _delete_half_and_die(folder: Path, *_, ignore_errors: bool = False) -> None:
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    for path in files[: len(files) // 2]:
        path.unlink()
    if files:
        _die()
