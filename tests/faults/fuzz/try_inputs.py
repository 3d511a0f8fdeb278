"""Damaged inputs read in a process of its own: no crash, no hang, nothing written, memory within bounds, errors that
name the file."""

import ctypes
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults.fuzz.mutate import damaged
from tests.faults.fuzz.readers import Reader

# Addresses that a reader may take beside the input: the bytes that packed files may unpack to (formats.declared.FREE),
# copies of them, and what libraries map when they are first used: a pool of threads has 300 MB of stacks.
MEMORY = 3 * 2**29
_ARENAS = -8  # of mallopt: a heap for each thread would have 64 MB of addresses more
SECONDS, PATIENCE = 30, 300  # of processor time for one input, and of waiting
_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "shutil.rmtree")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclasses.dataclass(frozen=True)
class Failure:
    """An input that broke a rule."""

    reader: str
    seed: int
    file: str  # that was damaged, below the corpus
    reason: str


@dataclasses.dataclass
class Tried:
    """What became of the inputs of one reader."""

    inputs: int = 0
    refused: int = 0  # by a ValueError; the others were read
    failures: list[Failure] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class Corpus:
    """The small valid files of a reader, of which each input is a copy with one file damaged."""

    def __init__(self, name: str, reader: Reader, folder: Path) -> None:
        """Makes them, and reads them once, in a child: threads that libraries start here would be missing in others."""
        self.name, self.reader, self._folder = name, reader, folder
        self._place = (folder / "corpus").resolve()
        self._place.mkdir(parents=True)
        root_file = folder / "root"

        def make() -> None:
            root = reader.make(self._place)
            root_file.write_text(str(self._place if root is None else Path(str(root)).resolve()))
            reader.read(Path(root_file.read_text()))

        assert not _in_child(make), f"{name}: its corpus is not made, or does not read"
        self._root = Path(root_file.read_text())
        self._contents = {}
        for path in sorted(self._place.rglob("*")):
            if path.is_file():
                self._contents[str(path.relative_to(self._place))] = content = path.read_bytes()
                path.unlink()  # it may be a link out of the corpus
                path.write_bytes(content)

    def try_inputs(self, first_seed: int, count: int, seconds: float) -> Tried:
        """Tries inputs of the seeds from `first_seed` on, at most as many and as long, in a child process."""
        begun, tried = time.monotonic(), Tried()
        while tried.inputs < count and (left := seconds - (time.monotonic() - begun)) > 0:
            rows, state = self._child(first_seed + tried.inputs, count - tried.inputs, left)
            for row in rows:
                tried.inputs += 1
                tried.refused += row["refused"]
                if row["reason"]:
                    tried.failures.append(Failure(self.name, row["seed"], row["file"], row["reason"]))
            if state:  # it died at the next input
                seed = first_seed + tried.inputs
                tried.inputs += 1
                tried.failures.append(Failure(self.name, seed, self.damage(seed)[0], state))
        tried.seconds = time.monotonic() - begun
        return tried

    def damage(self, seed: int) -> tuple[str, bytes]:
        """The file of this seed, below the corpus, and its content; every kind of file as often, not every file."""
        rng = random.Random(seed)
        kind = rng.choice(sorted({Path(file).suffix for file in self._contents}))
        file = rng.choice([file for file in self._contents if Path(file).suffix == kind])
        return file, damaged(self._contents[file], rng)

    def write(self, seed: int, folder: Path) -> Path:
        """Writes the input of a seed, to look at it; returns what the reader takes."""
        shutil.copytree(self._place, folder, dirs_exist_ok=True)
        file, content = self.damage(seed)
        (folder / file).write_bytes(content)
        return folder / self._root.relative_to(self._place)

    def _child(self, first_seed: int, count: int, seconds: float) -> tuple[list[dict], str]:
        """The rows of a child's inputs, and how it died; "" where it did not."""
        report = self._folder / "report.jsonl"
        report.unlink(missing_ok=True)
        code = _in_child(lambda: self._run(first_seed, count, seconds, report))
        for file, content in self._contents.items():  # as they were
            (self._place / file).write_bytes(content)
        rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        if not code:
            return rows, ""
        late = {-signal.SIGPROF: f"computes for more than {SECONDS} s", -signal.SIGALRM: f"waits {PATIENCE} s"}
        died = late.get(code, f"the process died with {code}")
        return rows, died

    def _run(self, first_seed: int, count: int, seconds: float, report: Path) -> None:
        """In the child: every input is put in the corpus's place, read, and the place is made whole again."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)  # of warnings of libraries
        ctypes.CDLL(None).mallopt(_ARENAS, 1)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        watch, end = _Watch(), time.monotonic() + seconds
        sys.addaudithook(watch)
        with open(report, "w") as lines:
            for seed in range(first_seed, first_seed + count):
                file, content = self.damage(seed)
                (self._place / file).write_bytes(content)
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.alarm(PATIENCE)
                with watch:
                    refused, reason = self._read()
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
                reason = reason or "; ".join(dict.fromkeys(watch.deeds))
                lines.write(json.dumps({"seed": seed, "file": file, "refused": refused, "reason": reason}) + "\n")
                lines.flush()
                (self._place / file).write_bytes(self._contents[file])
                if time.monotonic() > end:
                    return

    def _read(self) -> tuple[bool, str]:
        """Whether the input was refused, and the rule that was broken."""
        try:
            self.reader.read(self._root)
        except ValueError as error:
            if _of_memory(error):
                return True, f"takes more than {MEMORY} bytes: {error}"
            if self.reader.names and str(self._place) not in str(error):
                return True, f"does not name the file: {type(error).__name__}: {error}{_where(error)}"
            return True, ""
        except BaseException as error:
            return False, f"{type(error).__name__}: {error}{_where(error)}"
        return False, ""


def _in_child(work: Callable[[], object]) -> int:
    """The exit code of a child process that does `work`, -N where signal N ended it."""
    child = os.fork()
    if not child:
        code = 1
        signal.alarm(PATIENCE)
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Watch:
    """Notes, inside its block, files that are opened to be written and what else a reader has no business with."""

    def __init__(self) -> None:
        self.deeds: list[str] = []
        self._watching = False

    def __enter__(self) -> None:
        self.deeds.clear()
        self._watching = True

    def __exit__(self, *_) -> None:
        self._watching = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self._watching:
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
            if writes or event in _FORBIDDEN:
                self.deeds.append(f"{event} {arguments[:1]}")


def _of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _where(error: BaseException) -> str:
    """The last lines of this project that the error passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rig3r_jax" in frame.filename][-3:]
    return "".join(f" < {Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
