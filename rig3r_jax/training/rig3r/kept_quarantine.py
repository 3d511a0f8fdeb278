"""quarantine.json of a workdir: the records that the draws of a run could not use, over all its interruptions."""

import logging
from pathlib import Path

import jax

from rig3r_jax.data.quarantine import Quarantine
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.training.os_errors import explain

logger = logging.getLogger(__name__)


class KeptQuarantine:
    """The quarantine of a process, and its file: quarantine.json, of other processes than the first quarantine-N.json.

    Draws that were prepared ahead when a run was interrupted are made, and counted, again.
    """

    def __init__(self, quarantine: Quarantine, workdir: Path, resumed: bool) -> None:
        """Goes on with what the file holds where the run is `resumed`. ValueError, naming it, where it is none."""
        number = jax.process_index()
        self._quarantine, self._saved, self._failing = quarantine, 0, False
        self.path = workdir / (f"quarantine-{number}.json" if number else "quarantine.json")
        if resumed and self.path.exists():
            try:
                quarantine.restore(read_json(self.path))
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from error
            self._saved = quarantine.bad_draws

    def save(self) -> None:
        """Writes the file where there is something new; without bad draws there is none.

        Where the disk does not take it the run goes on: the log says so once, and the next call tries again.
        """
        if (bad_draws := self._quarantine.bad_draws) <= self._saved:
            return
        try:
            self.path.parent.stat()  # a workdir that is gone is not made anew: a disk may be missing
            write_json(self.path, self._quarantine.to_json())
        except OSError as error:
            if not self._failing:
                logger.warning("%s is not up to date: %s", self.path, explain(error))
            self._failing = True
        else:
            self._saved, self._failing = bad_draws, False
