"""One save: arrays off the devices, then in a thread to the disk, checksums, and a rename that makes it a checkpoint.

Until that rename the step is a folder N.saving, which no one takes for a checkpoint; whatever is killed before leaves
only that. Of many processes each writes its arrays and, when they are on the disk, their checksums as N.saving/sums.K;
process 0 waits for all of these. So nobody waits for a process that could not write: it says so in the main thread.
"""

import asyncio
import dataclasses
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from etils import epath

from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.training.checkpoint_files import disk_errors, without_echoes
from rig3r_jax.training.checkpoint_share import save_args
from rig3r_jax.training.checkpoint_sums import files_of, sums, write_sums
from rig3r_jax.training.processes import gather, is_first
from rig3r_jax.training.state import TrainState

logger = logging.getLogger(__name__)

_POSITION = "position/metadata"  # file of a step; it and its folder are made by nothing else than a save's beginning
_LOOK_SECONDS = 0.05  # between two looks for the checksums of other processes
_ECHO_SECONDS = 0.2  # from the first array that cannot be written to the last


class Save:
    """A save under way. Made on all processes at the same step; returns when the state may change.

    Args:
        folder: of the checkpoints; there already.
        step: of the state.
        position: of the data, JSON.
        newest: the checkpoint that must be there; where it is not, the folder is another one now, or a disk is missing.
        afterwards: called on process 0 in the save's thread, when the step is a checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        state: TrainState,
        position: dict[str, int],
        newest: int | None = None,
        afterwards: Callable[[int], None] = lambda step: None,
    ):
        self.step = step
        self._final, self._saving, self._afterwards = folder / str(step), folder / f"{step}.saving", afterwards
        self._handler = ocp.StandardCheckpointHandler()
        self._problem: Exception | None = None
        self._given_up, self._thread = threading.Event(), None
        self._attempt(lambda: self._make_folder(position, newest))
        if not any(gather(self._problem is not None)):
            self._attempt(lambda: self._start(state))

    def ended(self, *, wait: bool) -> bool:
        """Whether the step is a checkpoint now; raises what the save failed with, the same on all processes.

        These ask at the same time. Of what several failed with, the first's is raised.
        """
        while True:
            done = self._thread is None or not self._thread.is_alive()
            ours = _Problem.of(self._problem) if done and self._problem else None
            answers = gather((done, ours), [_Problem])
            problems = [problem for _, problem in answers if problem is not None]
            if problems:
                self.give_up()
                raise problems[0].as_error() from self._problem
            if (all_done := all(done for done, _ in answers)) or not wait:
                return all_done
            time.sleep(_LOOK_SECONDS)

    def give_up(self) -> Exception | None:
        """Ends the save, a checkpoint where all processes have written theirs: others are not waited for any more.

        What cannot become a checkpoint is removed, to make room. Returns what went wrong in this process.
        """
        self._given_up.set()
        if self._thread:
            self._thread.join()
        if is_first():
            shutil.rmtree(self._saving, ignore_errors=True)
        return self._problem

    def _attempt(self, work: Callable[[], None]) -> None:
        """Does `work`, and keeps what goes wrong for `ended`, with the place of it."""
        try:
            with disk_errors(self._final.parent):
                work()
        except Exception as error:
            self._problem = error

    def _make_folder(self, position: dict[str, int], newest: int | None) -> None:
        if is_first():
            if newest is not None:
                os.stat(self._final.with_name(str(newest)))
            shutil.rmtree(self._saving, ignore_errors=True)
            for part in ("", "state", "position"):
                os.mkdir(self._saving / part)  # no parents: a folder that is gone shall not come back empty
            write_json(self._saving / _POSITION, position)

    def _start(self, state: TrainState) -> None:
        args = ocp.args.StandardSave(state, save_args(state))
        writes = asyncio.run(self._handler.async_save(epath.Path(self._saving / "state"), args=args))
        self._thread = threading.Thread(target=self._attempt, args=[lambda: self._finish(writes)], name="save")
        self._thread.daemon = True
        self._thread.start()

    def _finish(self, writes: list) -> None:
        with without_echoes():
            try:
                for write in writes:
                    write.result()
            except Exception:
                time.sleep(_ECHO_SECONDS)
                raise
        ours = f"state/ocdbt.process_{jax.process_index()}"
        names = [f"{ours}/{name}" for name in files_of(self._saving / ours)]
        write_json(self._saving / f"sums.{jax.process_index()}", sums(self._saving, names, sync=True))
        if is_first() and (parts := self._parts()):
            self._commit(parts)
            self._afterwards(self.step)

    def _parts(self) -> list[Path]:
        """The files of checksums of all processes; none where the save was given up before all were there."""
        while True:
            parts = [self._saving / name for name in os.listdir(self._saving) if name.startswith("sums.")]
            if len(parts) == jax.process_count():
                return parts
            if self._given_up.is_set():
                return []
            time.sleep(_LOOK_SECONDS)

    def _commit(self, parts: list[Path]) -> None:
        """Makes one checkpoint of what the processes wrote."""
        sums_by_name = {}
        for part in parts:
            sums_by_name |= read_json(part)
            part.unlink()
        self._handler.finalize(epath.Path(self._saving / "state"))
        others = [name for name in files_of(self._saving) if name not in sums_by_name]
        write_sums(self._saving, self.step, sums_by_name | sums(self._saving, others, sync=True))
        for path in [folder for folder in self._saving.rglob("*") if folder.is_dir()] + [self._saving]:
            sync_folder(path)
        os.stat(self._saving / _POSITION)  # of a folder that went away, writers of arrays make the rest anew
        os.rename(self._saving, self._final)
        try:
            sync_folder(self._final.parent)
        except OSError:  # its name may be gone after a power cut: a step that is not saved is not there
            os.rename(self._final, self._saving)
            raise


@dataclasses.dataclass(frozen=True)
class _Problem:
    """What a save failed with, as processes tell each other."""

    code: int  # of the operating system; 0: another error
    text: str
    place: str  # path; "" for another error

    @classmethod
    def of(cls, error: Exception) -> "_Problem":
        if isinstance(error, OSError) and error.errno:
            return cls(error.errno, error.strerror, str(error.filename or ""))
        return cls(0, f"{type(error).__name__}: {error}", "")

    def as_error(self) -> Exception:
        return OSError(self.code, self.text, self.place) if self.code else RuntimeError(self.text)


def sync_folder(folder: Path) -> None:
    """Names in a folder are on the disk, as their files are."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
