"""How far a run is: a bar at a terminal, lines in a log."""

import logging
import math
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class ProgressDisplay:
    """A bar of `steps` steps; where nobody watches, a line now and then: a bar's states reach a job's log in heaps."""

    def __init__(self, first: int, steps: int, *, silent: bool):
        self._steps, self._lines = steps, not sys.stderr.isatty()
        self._line_at = -math.inf  # when the last line was written
        self._bar = tqdm(total=steps, initial=first, unit="step", disable=silent or self._lines)

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One step more."""
        self._bar.update()

    def show(self, step: int, text: str, *, last: bool) -> None:
        """What the metrics say up to `step`; the `last` text is always shown."""
        self._bar.set_postfix_str(text)
        if self._lines and (last or time.monotonic() - self._line_at >= SECONDS_BETWEEN_LINES):
            self._line_at = time.monotonic()
            logger.info("step %d of %d: %s", step, self._steps, text)
