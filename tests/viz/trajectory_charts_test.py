"""A trajectory's chart is a PNG with both paths and ellipses on it, whatever the size of the uncertainty."""

import cv2
import numpy as np
import pytest

from rig3r_jax.viz import figures, trajectory_charts
from rig3r_jax.viz.trajectory_charts import write_trajectory_chart


def path(count, offset):
    first_from_camera = np.tile(np.eye(4), (count, 1, 1))
    along = np.linspace(0.0, 1.0, count)
    first_from_camera[:, 0, 3], first_from_camera[:, 2, 3] = 3.0 * np.sin(3.0 * along), 5.0 * along
    first_from_camera[:, 0, 3] += offset * along
    return first_from_camera


def draw(folder, sigma, count=40):
    covariance = sigma**2 * np.linspace(0.0, 1.0, count)[:, None, None] * np.eye(6)
    write_trajectory_chart(
        folder / "new/chart.png", "A title", np.arange(count) + 1.7e9, path(count, 0.0), path(count, sigma), covariance
    )
    return cv2.imread(str(folder / "new/chart.png")).astype(int)


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 20.0])
def test_chart_of_any_uncertainty(tmp_path, sigma):
    image = draw(tmp_path, sigma)
    assert image.shape[0] == pytest.approx(5.2 * figures.DPI, abs=1)
    assert image.shape[1] == pytest.approx(2 * 5.8 * figures.DPI, abs=1)
    for color in figures.COLORS[:2]:
        shade = [int(color[at : at + 2], 16) for at in (5, 3, 1)]  # as cv2 reads
        left, right = (np.sum(np.abs(half - shade).max(axis=2) < 12) for half in np.array_split(image, 2, axis=1))
        assert left > 100 and right > 100


def test_two_frames_are_enough_and_so_is_no_error(tmp_path):
    assert draw(tmp_path, 0.1, count=2).size
    assert draw(tmp_path, 0.0).size


def test_lengths_are_equal_on_both_axes(tmp_path, monkeypatch):
    drawn = []
    plain = trajectory_charts._draw_above

    def kept(ax, *arrays):
        plain(ax, *arrays)
        drawn.append(ax)

    monkeypatch.setattr(trajectory_charts, "_draw_above", kept)
    draw(tmp_path, 0.3)
    (box,) = [ax.transData.transform([[0.0, 0.0], [1.0, 1.0]]) for ax in drawn]
    assert np.ptp(box[:, 0]) == pytest.approx(np.ptp(box[:, 1]), rel=1e-3)


@pytest.mark.parametrize(
    "sigma, label", [(1.0, "one sigma (holds 39%)"), (0.02, "one sigma, 10 times as large"), (0.0, "100 times")]
)
def test_legend_tells_how_much_ellipses_are_enlarged(tmp_path, monkeypatch, sigma, label):
    texts = []
    plain = trajectory_charts._draw_above

    def kept(ax, *arrays):
        plain(ax, *arrays)
        texts.extend(text.get_text() for text in ax.get_legend().get_texts())

    monkeypatch.setattr(trajectory_charts, "_draw_above", kept)
    draw(tmp_path, sigma)
    assert any(label in text for text in texts)
