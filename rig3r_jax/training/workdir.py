"""A workdir taken up again: its task and the parameters of its newest checkpoint."""

import errno
import logging
import os
import secrets
import tempfile
from pathlib import Path

import jax

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import workdir_config
from rig3r_jax.training.processes import gather, on_first
from rig3r_jax.training.task import TaskKind
from rig3r_jax.training.xla import use_compilation_cache

logger = logging.getLogger(__name__)

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


def evaluate_workdir(workdir: Path, kind: TaskKind, out: Path | None = None, records: Path | None = None) -> None:
    """Evaluates the newest checkpoint and writes every file about it, as the end of the run does.

    Runs on whatever devices there are, makes no optimizer, and builds no records.

    Args:
        workdir: of a run.
        kind: the module of its task.
        out: folder of the files; None: the workdir, or where that cannot be written to a folder that the log names.
        records: folder of the run's records; None: where they were.

    Raises:
        ValueError, FileNotFoundError: when the folder is no workdir, or has no checkpoint or no records.
        OSError: when `out` cannot be written to.
    """
    config = workdir_config(workdir)
    if records is not None:
        config.data.records = os.path.abspath(records)
    out = Path(gather(on_first(lambda: str(writable(workdir, out))))[0])
    use_compilation_cache(out)
    kind.use_devices(config, jax.device_count())
    task = kind.open_task(config, workdir, out)
    params, step = restore_params(workdir, task.abstract_params)
    task.finish(params, workdir, step=step, out=out)


def writable(workdir: Path, out: Path | None) -> Path:
    """The folder of an evaluation's files, tried before anything is computed."""
    folder = out or workdir
    try:
        trial = folder / f".trial.{secrets.token_hex(6)}"
        write_atomically(trial, bytes(4096))
        trial.unlink()
    except OSError as error:
        if out or error.errno not in _NOT_WRITABLE:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        folder = Path(tempfile.mkdtemp(prefix=f"{workdir.resolve().name}-evaluation-"))
        logger.warning("%s: %s; files go to %s, --out FOLDER chooses where", workdir, error.strerror, folder)
    return folder
