"""Records that draws could not use: counted, named with their reason, and too many of them an end."""

import collections
import threading
import typing

from rig3r_jax.data.scene import BadRecord

_SHOWN = 3  # records that a message names


class Quarantine:
    """Counts draws and names the records that could not be used, of each source and of all. Safe to share between
    threads."""

    def __init__(self, max_bad_fraction: float, min_draws: int):
        self._max_bad_fraction, self._min_draws = max_bad_fraction, min_draws
        self._lock = threading.Lock()
        self._draws: collections.Counter[str] = collections.Counter()  # of each source
        self._source_of: dict[str, str] = {}
        self.counts: collections.Counter[str] = collections.Counter()  # record -> draws that failed
        self.reasons: dict[str, str] = {}  # record -> what was wrong the first time, with the file
        self._over = ""  # why nothing is drawn any more

    @property
    def draws(self) -> int:
        """All draws so far."""
        with self._lock:
            return self._draws.total()

    @property
    def bad_draws(self) -> int:
        """Draws that could not be used so far."""
        with self._lock:
            return self.counts.total()

    def add(self, source: str, record: str, error: BadRecord | None) -> None:
        """One draw of a record, bad where there is an `error`; BadRecord when more than the budget of the source's
        draws, or of all draws, were bad. From then on every draw raises it, and none counts."""
        with self._lock:
            if self._over:
                raise BadRecord(self._over)
            self._draws[source] += 1
            if error is None:
                return
            self.counts[record] += 1
            self.reasons.setdefault(record, str(error))
            self._source_of[record] = source
            self._over = self._over_budget(source)
            if self._over:
                raise BadRecord(self._over)

    def _over_budget(self, source: str) -> str:
        """What is over the budget; "" where nothing is."""
        of_source = [name for name, its_source in self._source_of.items() if its_source == source]
        for where, draws, records in (
            (f" of {source}", self._draws[source], of_source),
            ("", self._draws.total(), list(self.counts)),
        ):
            bad = sum(self.counts[name] for name in records)
            if draws >= self._min_draws and bad > self._max_bad_fraction * draws:
                records.sort(key=lambda name: -self.counts[name])
                worst = "; ".join(f"{name} ({self.reasons[name]})" for name in records[:_SHOWN])
                return (
                    f"{bad} of {draws} draws{where} could not be used, from {len(records)} records, over the budget of "
                    f"max_bad_fraction={self._max_bad_fraction}: {worst}; repair or leave out these, or raise it"
                )
        return ""

    def to_json(self) -> dict[str, typing.Any]:
        """What `restore` takes: draws of each source, and every record with its source, count and reason."""
        with self._lock:
            records = [
                {"record": name, "source": self._source_of[name], "count": count, "reason": self.reasons[name]}
                for name, count in self.counts.most_common()
            ]
            return {"draws": dict(self._draws), "records": records}

    def restore(self, content: dict[str, typing.Any]) -> None:
        """Goes on from what `to_json` gave; ValueError for anything else, naming what it lacks."""
        try:
            draws = {str(source): int(count) for source, count in content["draws"].items()}
            rows = [(str(r["record"]), str(r["source"]), int(r["count"]), str(r["reason"])) for r in content["records"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"is no list of records that could not be used ({error!r}); delete it") from error
        with self._lock:
            self._draws.update(draws)
            for record, source, count, reason in rows:
                self.counts[record] += count
                self.reasons.setdefault(record, reason)
                self._source_of[record] = source
