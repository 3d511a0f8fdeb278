"""Processes that are slower than the others, on which all wait at every step: named in the log, not ended.

No process sees it by its own steps: all take as long as the slowest. At logged steps each times a small program of its
own device, and tells how long it waited for its data.
"""

import logging
import platform
import time

import jax
import jax.numpy as jnp

from rig3r_jax.training.processes import gather, is_first

logger = logging.getLogger(__name__)

SLOWER = 4.0  # times the quickest process, at which one is named
WAITS = 0.25  # of the time of a row, more than the one that waits least, at which one is named for its data
_SIZE, _TIMES = 256, 32  # of a matrix, and how often it is multiplied


class Stragglers:
    """Of many processes all call `look` at the same steps; of one process it does nothing."""

    def __init__(self) -> None:
        self._named: set[int] = set()  # processes that were slow at the last look

    def look(self, step: int, waited: float) -> None:
        """Warns of processes that are slow at two looks in a row; `waited`: the share of the time since the last look
        that this process waited for data."""
        if jax.process_count() == 1:
            return
        reports = gather((_seconds(), waited, platform.node()))
        slow = slow_processes([(seconds, share) for seconds, share, _ in reports])
        for number in sorted(slow.keys() & self._named):
            if is_first():
                logger.warning("step %d: process %d on %s %s", step, number, reports[number][2], slow[number])
        self._named = set(slow)


def slow_processes(reports: list[tuple[float, float]]) -> dict[int, str]:
    """By number, what is said of processes by their (seconds of the small program, share of waiting for data)."""
    quickest, least = min(seconds for seconds, _ in reports), min(share for _, share in reports)
    slow = {}
    for number, (seconds, share) in enumerate(reports):
        if share > least + WAITS:
            slow[number] = f"waits for its data {100 * share:.0f}% of the time, another {100 * least:.0f}%"
        elif seconds > SLOWER * quickest:
            slow[number] = f"computes {seconds / quickest:.0f} times slower than the quickest; all wait for it"
    return slow


def _seconds() -> float:
    """What a small program takes on the first device of this process, which has nothing else to do then."""
    array = jax.device_put(jnp.ones((_SIZE, _SIZE), jnp.float32), jax.local_devices()[0])
    jax.block_until_ready(_program(array))  # compiled, and warm
    begun = time.perf_counter()
    jax.block_until_ready(_program(array))
    return time.perf_counter() - begun


@jax.jit
def _program(array: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, _TIMES, lambda _, x: x @ array / _SIZE, array)
