"""Charts are PNG files of the promised size with something on them, of every run that was given."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from rig3r_jax.evaluation.calibration import calibration_report
from rig3r_jax.evaluation.d2 import status
from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.viz import figures, metric_panels
from rig3r_jax.viz.calibration_charts import write_calibration_charts
from rig3r_jax.viz.histories import Curve, History
from rig3r_jax.viz.metric_charts import absent_charts, all_charts, summary_table, write_charts
from rig3r_jax.viz.metric_panels import trailing_mean
from rig3r_jax.viz.pose_charts import POSE_CHARTS

STEPS = np.arange(1.0, 501.0)


def history(*, kept="", seed=0):
    """Every metric of the charts whose name holds `kept`."""
    rng = np.random.default_rng(seed)
    names = [name for chart in POSE_CHARTS.values() for name in chart.metrics() if re.search(kept, name)]
    return History(Path("run"), {name: Curve(STEPS, np.exp(0.2 * rng.normal(size=500))) for name in names})


def drawn(path):
    """The picture; it must decode, be of whole panels' size, and hold colour."""
    image = cv2.imread(str(path))
    assert image is not None, path
    height, width, _ = image.shape
    assert height == pytest.approx(3.9 * figures.DPI, abs=1)
    assert width % int(4.6 * figures.DPI) < 3
    assert np.mean(np.ptp(image.astype(int), axis=2) > 60) > 0.001  # coloured lines
    assert np.mean(image.min(axis=2) > 250) > 0.5  # on white
    return image


def test_all_charts_of_one_run(tmp_path):
    written = write_charts({"run": history()}, tmp_path / "new/folder")
    assert [path.name for path in written] == [f"{name}.png" for name in POSE_CHARTS] + ["summary_table.md"]
    for path in written[:-1]:
        drawn(path)
    assert drawn(tmp_path / "new/folder/loss_curves.png").shape[1] == pytest.approx(3 * 4.6 * figures.DPI, abs=1)
    assert absent_charts({"run": history()}) == {}


def test_two_runs_are_overlaid_in_two_colours(tmp_path):
    old, new = history(kept="d2|sqrt_info.*hit"), history(kept="d2|log_var", seed=1)
    written = write_charts({"old": old, "new": new}, tmp_path / "two")
    names = {"calibration", "clamp_hit_rate", "log_var_clamp_hit"}
    assert {path.stem for path in written} == names | {"summary_table"}
    alone = write_charts({"old": old}, tmp_path / "one")
    colours = [tuple(int(color[i : i + 2], 16) for i in (5, 3, 1)) for color in figures.COLORS[:2]]  # as cv2 reads

    def counts(folder, name):
        image = drawn(tmp_path / folder / f"{name}.png").astype(int)
        return [np.sum(np.abs(image - colour).max(axis=2) < 12) for colour in colours]

    assert min(counts("two", "calibration")) > 300
    assert counts("one", "calibration")[1] < 10
    assert counts("two", "clamp_hit_rate")[1] < 10 < counts("two", "clamp_hit_rate")[0]
    assert "log_var_clamp_hit.png" not in {path.name for path in alone}


def test_charts_without_metrics_are_named_not_drawn(tmp_path):
    few = History(Path("run"), {"calibration/d2_rot_mean": Curve(STEPS, np.full(500, 3.0))})
    written = write_charts({"few": few}, tmp_path)
    assert [path.name for path in written] == ["calibration.png", "summary_table.md"]
    assert drawn(written[0]).shape[1] == pytest.approx(4.6 * figures.DPI, abs=1)  # the one panel that has a metric
    absent = absent_charts({"few": few})
    assert set(absent) == set(POSE_CHARTS) - {"calibration"}
    table = written[-1].read_text()
    assert all(f"Not drawn: {name};" in table for name in absent)


def test_odd_values_are_drawn(tmp_path):
    """One value, NaN, zeros and negative numbers on logarithmic axes."""
    curves = {
        "calibration/d2_rot_mean": Curve(np.array([1.0]), np.array([2.0])),
        "calibration/d2_trans_mean": Curve(STEPS[:3], np.array([np.nan, 0.0, -1.0])),
        "uncertainty/sigma_rot_mean": Curve(STEPS[:3], np.array([np.nan, 0.1, np.nan])),
        "diagnostic/sigma_rot_p10": Curve(STEPS[:3], np.array([0.1, 0.1, 0.2])),
        "loss/rot_uncertainty_nll": Curve(STEPS, np.full(500, np.nan)),
    }
    written = write_charts({"run": History(Path("run"), curves)}, tmp_path)
    assert {path.stem for path in written} == {"calibration", "sigma_mean", "sigma_percentiles", "summary_table"}


def test_table_reads_the_run_at_the_steps_of_the_experiment():
    d2 = np.concatenate([np.full(200, 1.0), np.full(200, 3.0), np.full(100, 9.0)])
    curves = {
        "calibration/d2_rot_mean": Curve(STEPS, d2),
        "diagnostic/sqrt_info_trans_clamp_hit": Curve(STEPS, d2 / 10),
    }
    text = summary_table({"one|two": History(Path("run"), curves)})
    rows = [line for line in text.splitlines() if line.startswith("| one\\|two | ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:6]] for row in rows]
    assert cells == [
        ["100", "1", "1", "under-confident"],
        ["200", "1", "1", "under-confident"],
        ["300", "3", "3", "calibrated"],
        ["500", "9", "9", "over-confident"],
    ]
    assert rows[2].endswith("| - | - | - | - | 30 % |")
    assert "| calibration/d2_rot_mean | 9 | 9 |" in text
    assert "Of one|two, without a logged windowed d2" in text and "last 100 logged rows" in text


def own(raw, step, windowed):
    """A run that logs all three d2 of rotation."""
    names = ("calibration/d2_rot_mean", "calibration/predictive_d2_rot", "calibration/windowed_d2_rot")
    values = [np.broadcast_to(np.asarray(x, np.float64), (500,)) for x in (raw, step, windowed)]
    return History(Path("run"), {name: Curve(STEPS, value) for name, value in zip(names, values, strict=True)})


def test_the_status_is_of_the_windowed_d2_under_the_predictive_variance():
    """A calibrated Laplace run, whose raw d2 is 6, beside a run of another origin that logs the raw d2 alone."""
    windowed = np.where(STEPS <= 150, np.nan, 3.1)
    foreign = History(Path("csv"), {"calibration/d2_rot_mean": Curve(STEPS, np.full(500, 6.0))})
    text = summary_table({"ours": own(6.0, 2.9, windowed), "theirs": foreign})
    cells = [
        [cell.strip() for cell in row.split("|")[1:6]] for row in text.splitlines() if re.match(r"\| \w+s \|", row)
    ]
    assert cells[0] == ["ours", "100", "2.9", "-", "-"]  # fewer windows than a mean is of
    assert cells[1:4] == [["ours", step, "2.9", "3.1", "calibrated"] for step in ("200", "300", "500")]
    assert cells[4] == ["theirs", "100", "6", "6", "over-confident"]
    assert "Of theirs, without a logged windowed d2" in text
    assert (
        "| metric | ours, last | ours, mean of last 100 rows | theirs, last | theirs, mean of last 100 rows |" in text
    )
    assert "| calibration/windowed_d2_rot | 3.1 | 3.1 | - | - |" in text
    assert "without a logged" not in summary_table({"ours": own(6.0, 2.9, windowed)})
    ended = summary_table({"ours": own(6.0, 2.9, np.where(STEPS < 500, 3.0, np.nan))})
    assert "| ours | 500 | 2.9 | - | - |" in ended  # not the last number there was


def test_the_calibration_chart_draws_the_windowed_d2(tmp_path, monkeypatch):
    """Lines by their values: thin ones a step's, bold ones windowed; the raw d2 only of a run without another."""
    drawings = []

    def look(ax, panel):
        drawings.append(([(line.get_ydata()[-1], line.get_linewidth()) for line in ax.lines], ax.texts_of_legend()))

    monkeypatch.setattr(metric_panels, "_finish", lambda ax, panel: look(Legend(ax), panel))
    foreign = History(Path("csv"), {"train/calibration/d2_rot_mean": Curve(STEPS, np.full(500, 5.0))})
    runs = {"ours": own(6.0, 2.0, 3.1), "theirs": foreign, "young": own(6.0, 4.0, np.nan)}
    write_charts(runs, tmp_path)
    lines, legend = drawings[0]
    assert lines[0] == (3.0, 1.0) and lines[1:5] == [(2.0, 0.7), (3.1, 1.7), (5.0, 0.7), (5.0, 1.7)]
    assert lines[5] == (4.0, 0.7) and np.isnan(lines[6][0])
    assert legend == [
        "target 3",
        "ours:\nlast 100 windows",
        "theirs:\nraw, last 100 rows;\ntarget of a Gaussian law",
    ]


class Legend:
    """Axes whose legend can be read."""

    def __init__(self, ax):
        self.lines, self._ax = ax.lines, ax

    def texts_of_legend(self):
        return self._ax.get_legend_handles_labels()[1]


def test_runs_of_either_kind_are_overlaid(tmp_path):
    foreign = History(Path("csv"), {"calibration/d2_rot_mean": Curve(STEPS, np.full(500, 5.0))})
    wavy = 3 + 0.5 * np.sin(STEPS / 9)
    for name, runs in {
        "both": {"ours": own(6.0, wavy, wavy), "theirs": foreign},
        "turned": {"theirs": foreign, "ours": own(6.0, wavy, wavy)},
    }.items():
        drawn(write_charts(runs, tmp_path / name)[0])


def test_status_bands():
    assert [status(x) for x in (2.4, 2.5, 3.5, 3.6)] == [
        "under-confident",
        "calibrated",
        "calibrated",
        "over-confident",
    ]
    assert status(float("nan")) == "-"


def test_trailing_mean():
    values = np.arange(300.0)
    mean = trailing_mean(values, 100)
    assert np.isnan(mean[:9]).all() and mean[9] == 4.5 and mean[-1] == np.mean(values[-100:])
    values[250] = np.nan
    assert trailing_mean(values, 100)[-1] == pytest.approx(np.nanmean(values[-100:]))


def test_other_metrics_are_drawn_by_their_prefix(tmp_path):
    """A run of anything: no name is lost, none is drawn twice, and what is known of pose uncertainty stays as it is."""
    values = np.linspace(-1.0, 2.0, 500)
    names = [*(f"loss/part_{n}" for n in range(6)), "speed/images", "plain", "calibration/ours"]
    other = History(Path("run"), {name: Curve(STEPS, values) for name in names})
    charts = all_charts({"run": other})
    assert [name for name in charts if name not in POSE_CHARTS] == ["calibration_others", "loss", "metrics", "speed"]
    assert sorted(name for chart in charts.values() for name in chart.metrics() if name in names) == sorted(names)
    written = write_charts({"run": other}, tmp_path, charts)
    assert {path.stem for path in written} == {"calibration_others", "loss", "metrics", "speed", "summary_table"}
    height, width, _ = cv2.imread(str(tmp_path / "loss.png")).shape  # six panels in two rows
    assert (height, width) == pytest.approx((7.4 * figures.DPI, 4 * 4.6 * figures.DPI), abs=2)
    table = written[-1].read_text()
    assert all(f"| {name} | 2 | " in table for name in names) and "Not drawn" not in table and "d2" not in table
    assert absent_charts({"run": other}) == {}
    known = history()
    assert all_charts({"run": known}) == POSE_CHARTS
    assert (
        all_charts({"train": History(known.source, {f"train/{k}": v for k, v in known.curves.items()})}) == POSE_CHARTS
    )


def test_number_of_runs_is_checked(tmp_path):
    for count in (0, 7):
        with pytest.raises(ValueError, match=f"{count} runs"):
            write_charts({str(n): history() for n in range(count)}, tmp_path)


def test_calibration_charts_are_drawn_from_json(tmp_path):
    rng = np.random.default_rng(0)
    sigma = np.exp(0.5 * rng.normal(size=(900, 1))) * np.full(6, 0.01)
    samples = ErrorSamples(rng.normal(size=(900, 6)) * sigma, 2 * sigma**2)
    report = calibration_report(samples, samples.residual, samples)
    read = json.loads(json.dumps(report.to_json()))
    written = write_calibration_charts(read, tmp_path / "both")
    names = ["reliability", "d2_chi_square", "whitened_covariance", "sigma_against_error"]
    assert [path.stem for path in written] == names
    for path in written:
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) >= 500 and np.mean(np.ptp(image.astype(int), axis=2) > 60) > 0.001
    assert cv2.imread(str(written[2])).shape[1] == pytest.approx(2 * 4.6 * figures.DPI, abs=1)  # before and after
