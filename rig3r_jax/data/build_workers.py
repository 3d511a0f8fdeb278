"""Groups of scenes built by several processes, which read files and render on CPUs and leave all devices alone."""

import collections
import concurrent.futures
import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.synchronize import Event

from rig3r_jax.data.build_groups import BuiltGroup, Group, GroupFolder, list_scenes
from rig3r_jax.data.source import Scenes, Source

# Of a worker. One thread each: the processes are the parallelism.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_ENVIRONMENT |= {"OPENCV_FOR_THREADS_NUM": "1"}
_SECONDS_ALONE = 5.0  # in which one process does more than others that are still starting

Built = Iterator[tuple[Group, BuiltGroup]]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def build_groups(
    source: Source, listing: Mapping[str, Scenes], groups: Iterable[Group], folder: GroupFolder, workers: int
) -> Built:
    """Builds groups, and yields each when it is there; in their order with one worker, which is this process.

    With `workers` 0 there are as many as cores, once the build has taken some seconds, and where the source pickles.
    Closing the iterator ends the workers after the scene that they are at. ValueError where one of them was killed.
    """
    waiting, begun = collections.deque(groups), time.monotonic()
    seconds_alone = {0: math.inf if _pickling_error(source) else _SECONDS_ALONE, 1: math.inf}.get(workers, 0.0)
    while waiting and (len(waiting) == 1 or time.monotonic() - begun < seconds_alone):
        group = waiting.popleft()
        yield group, folder.built(group) or folder.build(group, listing[group.split], stopped=lambda: False)
    if waiting:
        yield from _build_by_processes(source, waiting, folder, min(workers or usable_cores(), len(waiting)))


def _pickling_error(source: Source) -> Exception | None:
    """Why a source cannot be sent to another process."""
    try:
        pickle.dumps(source)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return error
    return None


def _build_by_processes(source: Source, groups: Iterable[Group], folder: GroupFolder, workers: int) -> Built:
    if error := _pickling_error(source):
        raise ValueError(f"workers={workers}: the source cannot be sent to processes ({error}); take workers=1")
    context = multiprocessing.get_context("spawn")  # a fork of a process with JAX in it may hang
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (source, folder, stop))
    try:
        with _environment(_ENVIRONMENT):  # `submit` starts the processes
            under_way = {pool.submit(_build, group): group for group in groups}
        for future in concurrent.futures.as_completed(list(under_way)):
            yield under_way.pop(future), future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            f"one of {workers} workers was killed or could not start, mostly for want of memory; the same command goes "
            "on from here; workers=N takes fewer"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables, which processes started in the block inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


class _Worker:
    """What a process builds with; it lists the scenes itself, since loaders need not pickle."""

    def __init__(self, source: Source, folder: GroupFolder, stop: Event) -> None:
        self._source, self._folder, self._stop = source, folder, stop
        self._listing: dict[str, Scenes] = {}

    def build(self, group: Group) -> BuiltGroup | None:
        """The group, unless another process was first."""
        self._listing = self._listing or list_scenes(self._source)
        return self._folder.built(group) or self._folder.build(group, self._listing[group.split], self._stop.is_set)


_worker: _Worker | None = None  # of this process


def _start(source: Source, folder: GroupFolder, stop: Event) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = _Worker(source, folder, stop)


def _end_with_parent() -> None:
    """A killed parent tells nobody, and its workers would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _build(group: Group) -> BuiltGroup | None:
    return _worker.build(group)
