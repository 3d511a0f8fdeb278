"""The laws of a scaling study: of every error, on every number of worlds, with what they say of other trainings."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.studies.power_law import LEVEL, PowerLaw, Prediction, fit, predict, resampled_fits
from rig3r_jax.studies.runner import Run
from rig3r_jax.studies.scores import LOSS
from rig3r_jax.studies.table import number_of

logger = logging.getLogger(__name__)

MORE = 10.0  # times the compute of a config that is predicted, too


@dataclasses.dataclass(frozen=True)
class Law:
    """The law of one error over the runs on one number of worlds."""

    error: str  # a title of `errors_of`
    worlds: int
    compute: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"]
    law: PowerLaw
    resampled: list[PowerLaw]

    def predict(self, compute: float) -> Prediction:
        """What a training of this compute is said to reach."""
        return predict(self.law, self.resampled, self.compute, self.errors, compute)

    def interval(self, key: str) -> tuple[float, float]:
        """95% of the resampled laws' numbers; NaN without a law."""
        if not self.resampled:
            return math.nan, math.nan
        low, high = np.quantile([getattr(law, key) for law in self.resampled], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def laws_of(runs: Sequence[Run], name: str, settings: Sequence[str]) -> list[Law]:
    """The law of each error on a set, for each number of worlds that runs were trained on."""
    laws = []
    for title in errors_of(runs[0], name, settings):
        for worlds in sorted({run.config.data.max_scenes for run in runs}):
            alike = [run for run in runs if run.config.data.max_scenes == worlds]
            points = [(run.compute, errors_of(run, name, settings)[title]) for run in alike]
            if any(error == 0 for _, error in points):
                logger.warning("%s of %d worlds: a run without any error has no place in a law", title, worlds)
            compute, errors = np.array([point for point in points if point[1] > 0], np.float64).reshape(-1, 2).T
            law = fit(compute, errors)
            laws.append(Law(title, worlds, compute, errors, law, resampled_fits(law, compute, errors)))
    return laws


def errors_of(run: Run, name: str, settings: Sequence[str]) -> dict[str, float]:
    """The loss, told all, and of each setting the percent that mAA30 lacks; NaN of a run that diverged."""
    errors = {f"{LOSS} {settings[-1]}": number_of(run, name, settings[-1], LOSS).value}
    return errors | {f"100 - mAA30 {one}": 100.0 - number_of(run, name, one, "mAA30").value for one in settings}


def law_row(name: str, law: Law, asked: Mapping[str, float]) -> dict[str, object]:
    """A law and what it says of configs, by the operations of each, as JSON takes it."""
    of_law = {"set": name, "error": law.error, "worlds": law.worlds, "runs": len(law.errors)}
    predictions = {
        config: {times: dataclasses.asdict(law.predict(compute * times)) for times in (1.0, MORE)}
        for config, compute in asked.items()
    }
    intervals = {key: law.interval(key) for key in ("floor", "slope")}
    return {**of_law, **dataclasses.asdict(law.law), "intervals": intervals, "predictions": predictions}
