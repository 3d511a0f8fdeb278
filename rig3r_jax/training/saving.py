"""When a run saves, and what it does when it cannot: it goes on and tries again for a while, then it stops.

A save that fails is one line of the log. It is repeated with the state of that moment after 10 s, then after pauses
that double up to five minutes; meanwhile none is due by `train.checkpoint_every`. Once `train.save_retry_minutes` have
passed without a checkpoint, the run stops with an exit code of its own. At the end of a run the last state is tried
again in place, by the same rule.
"""

import logging
import time
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.os_errors import OF_THE_MACHINE, explain
from rig3r_jax.training.position import Position
from rig3r_jax.training.processes import gather, is_first, on_first
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.watchdog import progress

logger = logging.getLogger(__name__)

# 74 (EX_IOERR): started again the run would end in the same way. 73: on another machine it may not.
EXIT_NOT_SAVED, EXIT_NOT_SAVED_HERE = 74, 73

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0  # seconds between two tries

_SLOW_DISK = 5.0  # times the watchdog's limit for the end of the save before, and of its copy


class NotSaved(Exception):
    """The state could not be saved for too long; its text is one line that says what to do."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


class Saver:
    """Saves the states of a run. Of many processes all call every method at the same steps."""

    def __init__(self, checkpoints: Checkpoints, config: ConfigDict, check_lock: Callable[[], None] = lambda: None):
        """`config`: its section `train`; `check_lock` raises before a save where the workdir is another run's now."""
        self._checkpoints, self._every, self._check_lock = checkpoints, config.checkpoint_every, check_lock
        self._patience = 60.0 * config.save_retry_minutes
        # Many processes ask each other at steps at which they wait for the devices anyway.
        self._look_every = 1 if jax.process_count() == 1 else config.log_every
        self._failing_since = self._next_try = self._pause = 0.0  # of the clock, 0 while nothing fails; seconds

    def is_due(self, step: int) -> bool:
        """Whether the state after this step is to be saved: it is time to, or time to try again.

        Raises:
            NotSaved: when saves have failed for longer than the rule allows.
        """
        looks = step % self._look_every == 0
        if looks:
            self._look()
        if not self._failing_since:
            return step % self._every == 0
        return looks and gather(time.monotonic() >= self._next_try)[0]  # until one succeeds, no others are due

    def save(self, step: int, state: TrainState, position: Position) -> None:
        """Saves the state; returns as soon as it may change.

        Raises:
            NotSaved: when saves have failed for longer than the rule allows.
        """
        progress(f"saving step {step}", _SLOW_DISK)
        self._look(wait=True)  # for the save before this one
        on_first(self._check_lock)
        self._checkpoints.save(step, state, position.to_json())

    def last(self, step: int, state: TrainState, position: Position) -> None:
        """Saves a state after which none comes, and returns when it is on the disk.

        Raises:
            NotSaved: when it could not be saved for as long as the rule allows.
        """
        while True:
            self.save(step, state, position)
            self._look(wait=True)
            if self._checkpoints.latest_step == step:
                return
            while (seconds := self._next_try - time.monotonic()) > 0:
                progress(f"waiting to save step {step} again")
                time.sleep(min(1.0, seconds))

    def _look(self, *, wait: bool = False) -> None:
        """Hears of the save under way, if its end is known; with `wait` it is then."""
        before = self._checkpoints.latest_step
        try:
            self._checkpoints.check(wait=wait)
        except OSError as error:
            self._failed(error)
        if self._failing_since and self._checkpoints.latest_step != before:
            logger.warning("step %d is saved; saves work again", self._checkpoints.latest_step)
            self._failing_since = self._pause = 0.0

    def _failed(self, error: OSError) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        end = self._failing_since + self._patience
        self._next_try = min(now + self._pause, end)
        if gather(now >= end)[0]:
            code = EXIT_NOT_SAVED_HERE if error.errno in OF_THE_MACHINE else EXIT_NOT_SAVED
            waited = f"for {_duration(now - self._failing_since)} (train.save_retry_minutes)"
            raise NotSaved(f"could not save {waited}: {explain(error)}. The run stops; {self._newest()}", code)
        if is_first():
            logger.error(
                "could not save: %s. The run goes on and tries again in %s, for %s in all; %s",
                explain(error), _duration(self._next_try - now), _duration(self._patience), self._newest(),
            )  # fmt: skip

    def _newest(self) -> str:
        latest = self._checkpoints.latest_step
        if latest is None:
            return "there is no checkpoint yet"
        gone = "" if (self._checkpoints.folder / str(latest)).exists() else ", whose folder is not there now"
        return f"the newest checkpoint is step {latest}{gone}"


def _duration(seconds: float) -> str:
    """In words that tell a fraction of a minute from none."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"
