"""`rig3r bench intervals`: how often the 95% intervals of `rig3r evaluate` hold the truth, in simulated evaluations."""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.evaluation.systems.resample import interval

Simulation = tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"], float]  # sums, weights, the true number


def rates(rng: np.random.Generator, scenes: int) -> Simulation:
    """Hits, in percent, of 20 to 199 pairs of images of each scene; scenes differ by a beta law of mean 2/3."""
    pairs = rng.integers(20, 200, scenes)
    return 100.0 * rng.binomial(pairs, rng.beta(4, 2, scenes)), pairs.astype(float), 100 * 4 / 6


def skewed_errors(rng: np.random.Generator, scenes: int) -> Simulation:
    """An error of each scene, log-normal with a sigma of 0.6."""
    return rng.lognormal(0.0, 0.6, scenes), np.ones(scenes), float(np.exp(0.18))


SIMULATIONS: dict[str, Callable[[np.random.Generator, int], Simulation]] = {
    "rates": rates,
    "skewed errors": skewed_errors,
}


def coverage(name: str, scenes: int, evaluations: int, resamples: int = 2000, seed: int = 0) -> float:
    """Percent of simulated evaluations whose interval holds the true number."""
    rng, held = np.random.default_rng(seed), 0
    for number in range(evaluations):
        sums, weights, truth = SIMULATIONS[name](rng, scenes)
        bounds = interval(sums, weights, resamples, number)
        held += bounds.low <= truth <= bounds.high
    return 100.0 * held / evaluations


def command(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints a row per number of scenes and writes the JSON."""
    rows: list[Row] = [
        {"scenes": scenes}
        | {f"{name}, %": coverage(name, scenes, options.evaluations, options.resamples) for name in SIMULATIONS}
        for scenes in options.scenes
    ]
    print(format_rows(rows))
    error = 100 * np.sqrt(0.95 * 0.05 / options.evaluations)
    print(f"\n{options.evaluations} evaluations each: a standard error of {error:.1f}")
    settings = {"evaluations": options.evaluations, "resamples": options.resamples}
    write_result(options, options.name or "intervals", settings, rows)
    return 0
