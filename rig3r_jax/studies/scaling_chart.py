"""The picture of a scaling study: errors against operations, with the law of each number of worlds."""

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.studies.laws import Law
from rig3r_jax.viz.figures import COLORS, QUIET, figure, plain_ticks


def write_chart(path: Path, laws: Mapping[str, Sequence[Law]], asked: Mapping[str, float]) -> None:
    """A panel per set and error; a vertical line at the operations of every config that the law is asked of."""
    panels = [(name, error) for name, of_set in laws.items() for error in dict.fromkeys(law.error for law in of_set)]
    with figure(path, "Errors against the operations of training", len(panels)) as axes:
        for axis, (name, error) in zip(axes, panels, strict=True):
            of_panel = [law for law in laws[name] if law.error == error]
            _draw(axis, of_panel, asked)
            axis.set(title=f"{name}: {error}", xlabel="operations", xscale="log", yscale="log")
            plain_ticks(axis.yaxis)


def _draw(axis: typing.Any, laws: Sequence[Law], asked: Mapping[str, float]) -> None:
    ends = np.concatenate([*(law.compute for law in laws), np.array(list(asked.values()))])
    if not len(ends):
        return
    grid = np.geomspace(ends.min(), ends.max(), 100)
    for number, law in enumerate(laws):
        color = COLORS[number % len(COLORS)]
        axis.plot(law.compute, law.errors, "o", color=color, markersize=4, label=f"{law.worlds} worlds")
        if law.resampled:
            low, high = np.quantile([other.at(grid) for other in law.resampled], [0.025, 0.975], axis=0)
            axis.plot(grid, law.law.at(grid), color=color, linewidth=1.2)
            axis.fill_between(grid, low, high, color=color, alpha=0.12, linewidth=0)
    for name, compute in asked.items():
        axis.axvline(compute, color=QUIET, linewidth=0.8, linestyle="--", label=name)
    axis.legend()
