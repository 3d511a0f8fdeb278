"""The report: well-formed, self-contained, complete, safe against hostile names, and honest about missing values."""

import base64
import dataclasses
import hashlib
import html.parser
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.evaluation.rows import CLOSED_FORM, is_control
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.schema import PointMaps, PosedImage, Reconstruction
from rig3r_jax.viz.report import ExampleView, build_report

HOSTILE = "<script>alert('x')</script>\"&"
VOID = {"meta", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """Checks that elements nest, and collects text per table row, attributes and element counts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.rows, self.text, self.counts = [], [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def _row(value, **changes):
    names = ("mAA30", "mAA30_unfolded", "RRA15", "RTA15", "RTA15_unfolded")
    values = {**{name: value + index for index, name in enumerate(names)}, "pairs": 1200, **changes}
    return {**values, "same_time": {"mAA30": value / 2}, "far": {"mAA30": math.nan}}


ROWS = ("none", "camera", "time", "rig", "all", "untrained", "none, images blanked", "all, images blanked",
        "no network: identity, forward motion", CLOSED_FORM, HOSTILE)  # fmt: skip
EVALUATION = {
    "sets": {
        "same_rigs": {row: _row(10.0 + 3 * index) for index, row in enumerate(ROWS)},
        "unseen_rigs": {row: _row(5.0 + index, RRA15=math.nan) for index, row in enumerate(ROWS)},
    }
}
METRICS = [
    {"step": step, "loss/total": 1.0 / step, "learning_rate": 1e-3, "loss/bad": math.nan} for step in range(1, 90)
]


def _example(views, timed=True, **changes):
    rng = np.random.default_rng(views)
    cameras = np.tile(np.eye(4), (views, 1, 1))
    cameras[:, 2, 3] = np.arange(views)
    lens = Pinhole(np.array([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]))
    points = PointMaps(
        pixels=np.zeros((views, 4, 4, 2)),
        points_world=rng.normal(size=(views, 4, 4, 3)),
        depth=rng.uniform(1, 9, (views, 4, 4)),
        confidence=rng.uniform(1, 9, (views, 4, 4)),
        on_image=np.ones((views, 4, 4), bool),
        colors=rng.integers(0, 256, (views, 4, 4, 3)).astype(np.uint8),
    )
    images = tuple(
        PosedImage(f"{view}.jpg", 16, 16, lens, cameras[view], time=0.5 * view if timed else None)
        for view in range(views)
    )
    fields = {
        "title": f"scene {HOSTILE}",
        "images": rng.integers(0, 256, (views, 16, 16, 3)).astype(np.uint8),
        "reconstruction": Reconstruction(images, points=points),
        "world_from_camera_true": cameras,
        "depth_true": rng.uniform(1, 9, (views, 16, 16)),
        "valid": np.ones((views, 16, 16), bool),
        "camera_labels": [HOSTILE] * views,
    }
    return ExampleView(**{**fields, **changes})


def _build(path, **changes):
    options = {
        "title": f"Report {HOSTILE}",
        "summary": {"Steps": 10400, HOSTILE: HOSTILE},
        "metrics": METRICS,
        "evaluation": EVALUATION,
        "examples": [_example(2)],
        "notes": [f"overfitting on purpose {HOSTILE}"],
    }
    build_report(path, **{**options, **changes})
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("views", [1, 6, 24])
def test_page_is_well_formed_and_self_contained(tmp_path, views):
    text = _build(tmp_path / "report.html", examples=[_example(views)])
    page = Page(text)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith("data:image/png;base64,"), (tag, name, value[:80])
    assert not re.search(r"https?://|@import|url\(", text)
    assert "link" not in page.counts and page.counts["img"] == 4 * views
    assert sum(name == "alt" and bool(value) for _, name, value in page.attributes) == 4 * views


def test_every_row_set_and_fact_is_there(tmp_path):
    page = Page(_build(tmp_path / "report.html"))
    first_cells = [row[0] for row in page.rows if row]
    for name in ROWS:
        assert sum(cell.startswith(name) for cell in first_cells) >= 2 * 3, name  # two sets; all, same time, far
    words = " ".join(page.text)
    for expected in (
        "Same rigs",
        "Unseen rigs",
        "10\u202f400",
        "overfitting on purpose",
        "no proof of vision",
        "Across",
    ):
        assert (expected in words) == (expected != "Across"), expected


def test_hostile_names_stay_text(tmp_path):
    text = _build(tmp_path / "report.html", evaluation={"sets": {HOSTILE: {HOSTILE: {**_row(3.0), HOSTILE: HOSTILE}}}})
    assert Page(text).counts["script"] == 1 and "<script>alert" not in text
    assert {name for _, name, _ in Page(text).attributes if name.startswith("on")} == set()


def test_policy_names_the_one_script(tmp_path):
    text = _build(tmp_path / "report.html")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_missing_values_are_dashes(tmp_path):
    text = _build(tmp_path / "report.html")
    assert not re.search(
        r"\b(nan|NaN|inf|None)\b", re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>|base64,[^\"]*", "", text)
    )
    sets = EVALUATION["sets"]
    page = Page(text)
    header = next(row for row in page.rows if "RRA@15" in row)
    rows = [row for row in page.rows if row[0].startswith("camera") and len(row) == len(header)]
    assert rows[0][header.index("RRA@15")] == f"{sets['same_rigs']['camera']['RRA15']:.1f}"
    assert rows[1][header.index("RRA@15")] == "–"


def test_best_is_of_the_network_and_controls_that_reach_it_are_marked(tmp_path):
    rows = {"none": {"mAA30": 32.0}, "all": {"mAA30": 71.0}, CLOSED_FORM: {"mAA30": 81.5}, "untrained": {"mAA30": 0.3}}
    text = _build(tmp_path / "report.html", evaluation={"sets": {"same_rigs": rows}})
    assert re.findall(r'<td class="best"><strong>([^<]+)', text) == ["71.0"]
    assert re.findall(r'<td class="reaches">([^<]+)', text) == ["81.5"]
    assert "<b>−10.5</b>" in text and "71.0 against 81.5" in text
    assert [is_control(name) for name in ROWS] == [False] * 5 + [True] * 5 + [False]


def test_a_step_logged_twice_counts_once_with_its_later_values(tmp_path):
    rows = [{"step": 1, "x": 1.0}, {"step": 2, "x": 99.0}, {"step": 2, "x": 2.0}, {"step": 3, "x": 3.0}]
    text = _build(tmp_path / "report.html", metrics=rows)
    assert "&quot;x&quot;:[1.0,2.0,3.0],&quot;y&quot;:[1.0,2.0,3.0]" in text


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"metrics": []}, "metrics is empty.*metrics.jsonl"),
        ({"metrics": [{"loss": 1.0}]}, "row 0 has step None"),
        ({"metrics": [{"step": 1, "name": "x"}]}, "no metrics row holds a number"),
        ({"evaluation": {}}, "run the evaluation"),
        ({"evaluation": {"sets": {"same_rigs": {}}}}, "run the evaluation"),
        ({"examples": [_example(2, camera_labels=["only one"])]}, "camera_labels has 1 entries for 2 images"),
        ({"examples": [_example(2, reconstruction=_example(3).reconstruction)]}, "reconstruction has 3 entries for 2"),
    ],
)
def test_unusable_input_is_named_and_leaves_no_page(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        _build(tmp_path / "report.html", **changes)
    assert list(tmp_path.iterdir()) == []


def test_views_say_how_far_their_cameras_are_off(tmp_path):
    example = _example(2)
    true = example.world_from_camera_true.copy()
    true[1, :3, :3] = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    true[1, 0, 3] += 2.0
    text = _build(tmp_path / "report.html", examples=[dataclasses.replace(example, world_from_camera_true=true)])
    assert "off by 0°, 0 m" in text and "off by 90°, 2 m" in text


def test_nothing_predicted_is_drawn_on_padding(tmp_path):
    """A wide image of a square input: what lies above and below it is transparent, and no colour is scaled by it."""
    example = _example(1, depth_true=None, valid=None)
    points = example.reconstruction.points
    on_image = np.zeros((1, 4, 4), bool)
    on_image[:, 1:3] = True
    depth = np.where(on_image, points.depth, 1e6)
    padded = dataclasses.replace(points, on_image=on_image, depth=depth, confidence=np.where(on_image, 2.0, 1e6))
    scene = dataclasses.replace(example.reconstruction, points=padded)
    page = Page(_build(tmp_path / "report.html", examples=[dataclasses.replace(example, reconstruction=scene)]))
    pictures = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    assert len(pictures) == 3  # input, depth, confidence
    for picture in pictures[1:]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))))
        opaque = pixels[..., 3] > 0
        assert np.array_equal(opaque, np.repeat(np.repeat(on_image[0], len(opaque) // 4, 0), len(opaque) // 4, 1))
    assert "1000000" not in "".join(page.text)


def test_tables_scroll_inside_the_page(tmp_path):
    """Every table, and every picture that does not shrink, lies in a box that scrolls: a phone's page never does."""
    text = _build(tmp_path / "report.html")
    wide = re.findall(r'<table|<svg[^>]*class="(?:fixed|above)"|<div class="band"', text)
    boxes = re.findall(r'class="(?:[^"]* )?scroll(?: [^"]*)?"[^>]*>(?:<table|<svg|<div class="band")', text)
    assert len(boxes) == len(wide) > 3
    # Hidden words of far cells are placed absolutely: a box that is not positioned does not clip them.
    assert re.search(r"\.scroll \{[^}]*position: relative[^}]*overflow-x: auto", text)


def test_a_page_without_examples_notes_or_truth(tmp_path):
    assert "Scenes" not in "".join(Page(_build(tmp_path / "a.html", examples=[], notes=[], summary={})).text)
    bare = _example(2, timed=False, world_from_camera_true=None, depth_true=None, valid=None, camera_labels=())
    page = Page(_build(tmp_path / "b.html", examples=[bare]))
    assert page.counts["img"] == 6 and "off by" not in "".join(page.text)
    cameras_alone = dataclasses.replace(bare.reconstruction, points=None, length_unit="scene")
    page = Page(_build(tmp_path / "c.html", examples=[dataclasses.replace(bare, reconstruction=cameras_alone)]))
    assert page.counts["img"] == 2 and "scene units" in "".join(page.text)
