"""Scores of whole systems: their numbers over all scenes with intervals, and two systems' differences."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems.catalog import Score, catalog
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.resample import Difference, Interval, difference, interval
from rig3r_jax.evaluation.systems.score import COUNTS, SceneScores, score_folder


@dataclasses.dataclass(frozen=True)
class SystemScores:
    """One system on a set of scenes."""

    name: str
    source: str
    scenes: tuple[SceneScores, ...]
    missing: tuple[str, ...]  # scenes that it lacks, where that was let pass
    numbers: dict[str, Interval]  # by key, of all scenes
    reasons: dict[str, str]  # of keys without a number

    def sums(self, key: str) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        """Sums and weights of a key by scene."""
        return (
            np.array([scene.measures.sums.get(key, 0.0) for scene in self.scenes]),
            np.array([scene.measures.weights.get(key, 0.0) for scene in self.scenes]),
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Systems against one truth; `differences` are the second's less the first's, of two that are compared."""

    truth: str
    options: SystemOptions
    systems: tuple[SystemScores, ...]
    differences: dict[str, Difference] | None = None
    protocol: str = ""  # whose lists the truth has: its name and sha256


def evaluate_systems(
    predictions: list[Path], truth: Path, options: SystemOptions, compare: bool = False, skip_missing: bool = False
) -> Evaluation:
    """Scores every system; ValueError as of `score_folder`, for no system, one that is given twice, and two that are
    compared without a scene in common."""
    names = _names(predictions)
    systems = []
    for name, path in zip(names, predictions, strict=True):
        scenes, missing = score_folder(path, truth, options, skip_missing)
        systems.append(system_scores(name, str(path), scenes, missing, options))
    if not compare:
        return Evaluation(str(truth), options, tuple(systems))
    first, second = systems
    common = {scene.name for scene in first.scenes} & {scene.name for scene in second.scenes}
    if not common:
        raise ValueError(
            f"{first.source} and {second.source}: have no scene in common; compare systems on the same ones"
        )
    first, second = (_restricted(system, common, options) for system in systems)
    differences = {
        score.key: _difference(score, first, second, options) for group in catalog(options).values() for score in group
    }
    return Evaluation(str(truth), options, (first, second), differences)


def system_scores(
    name: str, source: str, scenes: Sequence[SceneScores], missing: Sequence[str], options: SystemOptions
) -> SystemScores:
    """The numbers of one system over its scenes; `missing` are scenes that it lacks."""
    system = SystemScores(name, source, tuple(scenes), tuple(missing), {}, {})
    numbers, reasons = {}, {}
    for group in catalog(options).values():
        for score in group:
            numbers[score.key] = _number(score, *system.sums(score.key), options)
            if np.isnan(numbers[score.key].value):
                stated = [scene.measures.reasons.get(score.key) for scene in scenes]
                reasons[score.key] = next(filter(None, stated), "nothing to measure")
    return dataclasses.replace(system, numbers=numbers, reasons=reasons)


def _number(
    score: Score, sums: Float[np.ndarray, " s"], weights: Float[np.ndarray, " s"], options: SystemOptions
) -> Interval:
    if score.key in COUNTS:  # totals, of which there is nothing to estimate
        return Interval(float(sums.sum()), np.nan, np.nan, len(sums))
    number = interval(sums, weights, options.resamples, options.seed)
    low, high = np.clip([number.low, number.high], *score.bounds)
    return dataclasses.replace(number, low=float(low), high=float(high))


def _difference(score: Score, first: SystemScores, second: SystemScores, options: SystemOptions) -> Difference:
    (sums_a, weights_a), (sums_b, weights_b) = first.sums(score.key), second.sums(score.key)
    if score.key in COUNTS:
        return Difference(float(sums_b.sum() - sums_a.sum()), np.nan, np.nan, np.nan, len(sums_a))
    change = difference((sums_a, sums_b), (weights_a, weights_b), options.resamples, options.seed)
    widest = score.bounds[1] - score.bounds[0]
    low, high = np.clip([change.low, change.high], -widest, widest)
    return dataclasses.replace(change, low=float(low), high=float(high))


def _restricted(system: SystemScores, names: set[str], options: SystemOptions) -> SystemScores:
    """The same on these scenes alone."""
    if len(names) == len(system.scenes):
        return system
    scenes = [scene for scene in system.scenes if scene.name in names]
    left_out = [scene.name for scene in system.scenes if scene.name not in names]
    return system_scores(system.name, system.source, scenes, [*system.missing, *left_out], options)


def _names(paths: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    if not paths:
        raise ValueError("no predictions; give the files or the folder of one system at least")
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        twice = next(path for path in paths if resolved.count(path.resolve()) > 1)
        raise ValueError(f"{twice}: is given twice; give different predictions")
    lengths = range(1, max(len(path.parts) for path in resolved) + 1)
    ends = (["/".join(path.parts[-length:]) for path in resolved] for length in lengths)
    return next(names for names in ends if len(set(names)) == len(names))  # whole paths differ
