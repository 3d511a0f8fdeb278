"""When a run is asked to stop: signals, heard by one process or agreed on by many."""

import logging
import os
import signal
import time

import jax

from rig3r_jax.training.processes import stop_agreed

logger = logging.getLogger(__name__)

# SIGTERM: preemption, `scancel`, `scontrol requeue`. SIGUSR1: what the launch scripts have SLURM send ahead of the time
# limit, since SIGTERM comes 30 s before SIGKILL, which is too short for a big checkpoint. SIGINT: Ctrl-C.
AHEAD, AT_ONCE = (signal.SIGUSR1,), (signal.SIGTERM, signal.SIGINT)

AGAIN_SECONDS = 1.0  # after the first signal, from which on Ctrl-C is meant to end the run at once


class StopRequest:
    """Asked after every step; as a context it listens.

    More signals change nothing, so that none ends the save that the first one asked for: whoever stops jobs sends
    SIGTERM to a process and to its group, or twice, and SIGKILL when its patience is over. Only Ctrl-C has its usual
    effect when it comes again, a second after the first signal.

    SIGUSR1 is heard from the start, else it would end a run that still compiles, and with no code that asks for a
    restart; the others from `hear_all` on: until there is a state to save, their usual effect is the right one. (Of
    many processes jax holds SIGTERM back from the start: it is heard at the first step, or SLURM's SIGKILL follows.)

    Of many processes, one that gets a signal is enough: jax listens to SIGTERM and has all stop after the same step;
    the other signals are passed on to it as that.
    """

    def __init__(self):
        self._received = False
        self._first_at = 0.0  # of the clock; 0 before the first signal
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        self._hear(AHEAD)
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Gives every signal its usual effect back."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def hear_all(self) -> None:
        """From here on every signal that asks to stop is heard."""
        self._hear(AT_ONCE if jax.process_count() == 1 else (signal.SIGINT,))

    def after(self, step: int) -> bool:
        """Whether the run stops after this step: the same answer on all processes."""
        return self._received or stop_agreed(step)

    def hear_with(self, code: int) -> None:
        """From here on a signal ends the process at once with `code`: everything is saved."""

        def leave(number: int, _frame) -> None:
            logger.warning("%s: the state is saved, the run ends here", signal.Signals(number).name)
            os._exit(code)

        for number in (*AHEAD, *AT_ONCE):
            previous = signal.signal(number, leave)
            self._previous.setdefault(number, signal.SIG_DFL if previous is None else previous)

    def _hear(self, numbers: tuple[signal.Signals, ...]) -> None:
        for number in numbers:
            self._previous[number] = signal.signal(number, self._heard)

    def _heard(self, number: int, _frame) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if not self._first_at:
            self._first_at = now
            alone = jax.process_count() == 1
            logger.warning("%s: saving after %s", name, "this step" if alone else "a step that all processes agree on")
            if alone:
                self._received = True
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        elif number == signal.SIGINT and now - self._first_at > AGAIN_SECONDS:
            self.close()
            signal.raise_signal(number)
        else:
            logger.warning("%s: saving already%s", name, "; again ends at once" if number == signal.SIGINT else "")
