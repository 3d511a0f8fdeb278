"""Data in the DGP format as tools of other systems write them."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest

from rig3r_jax.data.sources import make_source
from rig3r_jax.formats.times import PER_SECOND
from tests.data.recordings import copy_rig


@pytest.fixture
def root(shared, tmp_path):
    return copy_rig(shared, tmp_path / "ddad")


def load(root):
    return dict(make_source("ddad", str(root)).scenes("train"))["scene_02"]()


def edit_datums(root, change):
    """Changes every datum of the scene in place."""
    (scene_file,) = (root / "scene_02").glob("scene_*.json")
    document = json.loads(scene_file.read_text())
    for datum in document["data"]:
        change(datum)
    scene_file.write_text(json.dumps(document))


def test_paths_of_windows_are_read(root):
    def with_backslashes(datum):
        for part in datum["datum"].values():
            part["filename"] = part["filename"].replace("/", "\\")

    expected = load(root)
    edit_datums(root, with_backslashes)
    (listing,) = root.glob("*.json")
    listing.write_text(listing.read_text().replace("/", "\\\\"))
    scene = load(root)
    assert scene.frames[-1].depth == expected.frames[-1].depth
    assert [frame.image for frame in scene.frames] == [frame.image for frame in expected.frames]


@pytest.mark.parametrize("unit", [*PER_SECOND, "text"])
def test_times_may_be_numbers_since_1970(root, unit):
    expected = [frame.time for frame in load(root).frames]

    def as_number(datum):
        seconds = datetime.fromisoformat(datum["id"]["timestamp"]).timestamp() / 10  # see the next test
        datum["id"]["timestamp"] = str(seconds) if unit == "text" else round(seconds * PER_SECOND[unit], 3)

    edit_datums(root, as_number)
    np.testing.assert_allclose([frame.time for frame in load(root).frames], expected, rtol=0, atol=1e-3)


def test_dates_of_the_year_2464_are_of_2019_and_ten_frames_fill_a_second(root):
    """As DDAD has them: its counters are of 0.1 us, and were written as if they were of 1 us."""
    frame = load(root).frames[0]
    assert datetime.fromtimestamp(frame.time, UTC).date() == date(2019, 6, 27)
    times = [f.time for f in load(root).frames if f.camera == frame.camera]
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-4)


@pytest.mark.parametrize(
    ("written", "seconds"), [("2020-01-01T00:00:00", 1577836800), ("2020-01-01T02:00:00+02:00", 1577836800)]
)
def test_a_date_without_a_zone_is_utc(root, written, seconds):
    edit_datums(root, lambda datum: datum["id"].update(timestamp=written))
    assert {frame.time for frame in load(root).frames} == {seconds}
