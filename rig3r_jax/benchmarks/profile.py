"""Where the device's time goes: a profile of some calls, its kernels by kind and by part of the model."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from rig3r_jax.benchmarks.hlo import Program
from rig3r_jax.benchmarks.kernels import kind_of, part_of
from rig3r_jax.benchmarks.result import Row

# Kernels of libraries, which no instruction is named after; the first that fits.
_LIBRARIES = (
    (r"(sdpa|flash).*(bprop|bwd|backward)", "attention backward"),
    (r"(sdpa|flash).*(fprop|fwd|forward)|flash", "attention forward"),
    (r"nvjet|gemm|cublas|cutlass", "products"),
    (r"conv|wgrad|dgrad|implicit", "convolutions"),
    (r"nccl", "collectives"),
    (r"[Mm]em(cpy|set)", "copies"),
)


def profile_rows(call: Callable[[], None], program: str, calls: int = 3) -> list[Row]:
    """One row per kind of kernel and part of the model: milliseconds and kernels per call, the longest first.

    Args:
        call: runs the program once and waits for it.
        program: its text, whose instructions name the kernels.
        calls: how many are profiled.

    Raises:
        ValueError: the profiler saw no kernel.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                call()
        (file,) = Path(folder).rglob("*.xplane.pb")
        events = list(_events(file))
    whole = Program(program)
    # A kernel is named after its instruction, with other separators.
    instructions = {
        _plain(instruction.name): instruction for body in whole.computations.values() for instruction in body.values()
    }
    seconds: collections.Counter = collections.Counter()
    counts: collections.Counter = collections.Counter()
    for name, duration in events:
        instruction = instructions.get(_plain(name))
        key = (kind_of(whole, instruction), part_of(instruction)) if instruction else (_library(name), "")
        seconds[key] += duration
        counts[key] += 1
    if not seconds:
        raise ValueError("the profiler saw no kernel of this program: its plugin is missing, or another tool holds it")
    return [
        {"kernels": kind, "part": part, "ms": 1e3 * total / calls, "per call": counts[kind, part] / calls}
        for (kind, part), total in seconds.most_common()
    ]


def _events(file: Path) -> Iterator[tuple[str, float]]:
    """Names and seconds of what ran on GPUs, or where there are none, of XLA's operations on the CPU."""
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    on_gpu = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in on_gpu or planes:
        for line in plane.lines:
            for event in line.events:
                operation = event.name if on_gpu else dict(event.stats).get("hlo_op")
                if operation:
                    yield str(operation), event.duration_ns / 1e9


def _plain(name: str) -> str:
    return re.sub(r"[.\-]", "_", name)


def _library(name: str) -> str:
    return next((kind for pattern, kind in _LIBRARIES if re.search(pattern, name)), "other")
