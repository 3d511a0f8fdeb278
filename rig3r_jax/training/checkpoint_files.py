"""Steps of a checkpoint folder that are whole: one whose files are cut, missing or changed is named and passed over."""

import contextlib
import errno
import functools
import gc
import logging
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from rig3r_jax.training.checkpoint_sums import Damaged, verify
from rig3r_jax.training.processes import ReportedElsewhere, gather

logger = logging.getLogger(__name__)

T = typing.TypeVar("T")


def saved_steps(folder: Path) -> list[int]:
    """The steps of a folder of checkpoints, ascending, whole or not."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def newest_whole(folder: Path, read: Callable[[Path], T], before: int | None = None) -> tuple[T, int]:
    """What `read` returns for the newest step that is whole, and that step; the log names those after it.

    Whole: every file has the checksum that was written with it, and `read` can read it. Of many processes each checks
    its part of the files, then each reads; a step counts where all can.

    Args:
        folder: of checkpoints.
        read: takes the folder of a step; raises Damaged, as `reading` does.
        before: only steps before this one are asked for.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: no step is whole, or none is before the one given; names the damage of each, or the steps.
        OSError: a file is there and cannot be read.
        ReportedElsewhere: another process raises what `read` or the check of its files raised there.
    """
    steps = gather(saved_steps(folder))[0]  # a network file system may show the newest to some only
    if not steps:
        raise FileNotFoundError(f"{folder} holds no checkpoint; train first: rig3r train --config=... --workdir=...")
    if before is not None:
        kept = ", ".join(map(str, steps))
        steps = [step for step in steps if step < before]
        if not steps:
            raise ValueError(f"{folder} holds no step before {before}, only {kept}; train.keep_every keeps more")
    check = functools.partial(verify, part=jax.process_index(), parts=jax.process_count())
    damages = []
    for step in reversed(steps):
        verified, damage = _unless_damaged(check, folder, step)
        if not damage:
            value, damage = _unless_damaged(read, folder, step)
        if damage:
            damages.append(f"step {step} is damaged: {damage}")
            continue
        if damages:
            lost = steps[-1] - step
            loss = f"{lost:,} steps are lost" if lost > 1 else "1 step is lost"
            logger.warning("%s; step %d is taken: %s", "; ".join(damages), step, loss)
        if verified is None:
            logger.warning("%s is of a version without checksums: a changed byte goes unnoticed", folder / str(step))
        return value, step
    which, remedy = ("no step", f", or delete {folder}") if before is None else (f"no step before {before}", "")
    raise ValueError(f"{folder}: {which} is whole: {'; '.join(damages)}; restore one from a copy{remedy}")


def _unless_damaged(work: Callable[[Path], T], folder: Path, step: int) -> tuple[T | None, str]:
    """What `work` returns for a step, and ""; or the damage that this process or another has found.

    Any other error is raised where it is, and as ReportedElsewhere in the other processes, which else would wait.
    """
    value, damage, problem = None, "", None
    try:
        value = work(folder / str(step))
    except Damaged as error:
        damage = str(error)
    except (OSError, ValueError) as error:
        problem = error
    answers = gather((damage, f"{type(problem).__name__}: {problem}" if problem else ""))
    if problem:
        raise problem
    if problem_elsewhere := next((text for _, text in answers if text), ""):
        raise ReportedElsewhere(problem_elsewhere)
    return value, next((text for text, _ in answers if text), "")


def set_aside(folder: Path, newer_than: int) -> None:
    """Gives the steps after `newer_than`, which are damaged, another name: a run that goes on saves them again."""
    for step in saved_steps(folder):
        if step > newer_than:
            aside, number = folder / f"{step}.damaged", 2
            while aside.exists():
                aside, number = folder / f"{step}.damaged-{number}", number + 1
            os.rename(folder / str(step), aside)
            logger.warning("%s: kept as %s", folder / str(step), aside)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raises OSError that names the folder for one of a file in it, and for the ValueError that tensorstore makes."""
    try:
        yield
    except (OSError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else os_error_code(str(error))
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(folder)) from error


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raises Damaged for what orbax and tensorstore raise of cut and missing files; OSError for what the system says of
    a file that is there.

    In steps with checksums such files are named before anything is read.
    """
    problem = None
    with without_echoes():
        try:
            yield
        except Exception as error:
            if not isinstance(error, ValueError | KeyError | OSError) and type(error) is not Exception:  # tensorstore's
                raise
            problem = _problem(folder, error)
        if problem:
            gc.collect()
    if problem:
        raise problem


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
    """Of many arrays that are read or written at once one fails first: drops what Python says of the others, when they
    are thrown away."""
    usual = sys.unraisablehook
    sys.unraisablehook = lambda entry: None if _is_echo(entry) else usual(entry)
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _is_echo(entry: typing.Any) -> bool:
    """Whether what Python cannot raise is of a read that was given up."""
    return "_read_array" in repr(entry.object) or "Event loop is closed" in str(entry.exc_value)


def _problem(folder: Path, error: Exception) -> Exception:
    """OSError of a file that is there, else Damaged."""
    texts = list(_texts(error))
    code = error.errno if isinstance(error, OSError) else os_error_code(" ".join(texts))
    if code not in (None, errno.ENOENT):
        return OSError(code, os.strerror(code), getattr(error, "filename", None) or str(folder))
    return Damaged(f"{folder}: {_reason(texts)}")


def os_error_code(text: str) -> int | None:
    """The number of the system's error that a message of tensorstore tells of."""
    code = re.search(r"os_error_code='(\d+)'", text)
    return int(code[1]) if code else None


def _texts(error: BaseException | None) -> Iterator[str]:
    """The messages of an error and its causes, the first cause first."""
    if error is not None:
        yield from _texts(error.__cause__)
        yield str(error)


def _reason(texts: list[str]) -> str:
    """The innermost message, without paths and specifications."""
    text = re.sub(r" ?\[(tensorstore_spec|source locations)=.*", "", " ".join(texts[0].split()))
    array = re.search(r"Error reading \"([^\"]+?)/", text)
    last = text.rsplit(": ", 1)[-1] if "local file" in text else text
    last = "is missing" if text.startswith("NOT_FOUND") or "not found" in text or "does not exist" in text else last
    return f"{last} (array {array[1]})" if array else last
