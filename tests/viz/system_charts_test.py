"""Charts of systems: their curves are the numbers of the tables, and pictures are written of whatever there is."""

import numpy as np
import pytest

from rig3r_jax.evaluation.systems import curves
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.evaluation.systems.score import score_scene
from rig3r_jax.evaluation.systems.summary import Evaluation, system_scores
from rig3r_jax.viz.system_charts import write_system_charts
from tests.evaluation.pose_test import noisy, random_cameras

OPTIONS = SystemOptions(resamples=100)


def evaluation_of(*sizes, views=8, missing=0):
    """Systems with errors of these sizes on three scenes, the last images without a pose."""
    systems = []
    for number, size in enumerate(sizes):
        scenes = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            true = random_cameras(rng, views)
            names = tuple(f"{n}.png" for n in range(views))
            predicted = PosedScene("p", "made", noisy(true, rng, size, size), names).take(np.arange(views - missing))
            scenes.append(score_scene(predicted, PosedScene("t", "made", true, names), OPTIONS, str(seed)))
        systems.append(system_scores(f"system {number}", "made", scenes, (), OPTIONS))
    return Evaluation("truth", OPTIONS, tuple(systems))


@pytest.mark.parametrize("missing", [0, 2])
def test_curves_are_the_rates_of_the_tables(missing):
    (system,) = evaluation_of(0.1, missing=missing).systems
    percents = curves.accuracy_curves(system)
    at = {float(threshold): row for row, threshold in enumerate(curves.THRESHOLDS)}
    for degrees in (3, 5, 15, 30):
        for part, name in ((curves.ROTATION, "RRA"), (curves.DIRECTION, "RTA")):
            assert percents[part][at[degrees]] == pytest.approx(system.numbers[f"{name}{degrees}"].value)
    whole = [percents[curves.BOTH][at[degrees]] for degrees in range(1, 31)]
    assert np.mean(whole) == pytest.approx(system.numbers["mAA30"].value)


def test_bins_hold_quartiles_and_few_pairs_are_left_out():
    abscissae, errors = np.repeat([1.0, 2.0, 3.0], [20, 9, 41]), np.arange(70.0)
    errors[-1] = np.nan
    bins = curves.binned_errors(abscissae, errors, [0.5, 1.5, 2.5, 3.5])
    assert bins.middle.tolist() == [1, 3] and bins.median.tolist() == [9.5, 48.5]
    assert (bins.lower < bins.median).all() and (bins.median < bins.upper).all()
    assert not len(curves.binned_errors(np.zeros(0), np.zeros(0), [0.0, 1.0]).middle)


@pytest.mark.parametrize("sizes, views, count", [((0.05, 0.2), 8, 2), ((0.1,) * 8, 3, 2), ((0.1,), 1, 0)])
def test_pictures_are_written_of_what_there_is(tmp_path, sizes, views, count):
    written = write_system_charts(evaluation_of(*sizes, views=views), tmp_path)
    assert len(written) == count and all(path.read_bytes().startswith(b"\x89PNG") for path in written)
