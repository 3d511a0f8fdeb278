"""Data in the DGP format as tools of other systems write them."""

import json
from datetime import datetime

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
    later = load(root).frames[0].time - 1_556_658_180.0  # of the files, which are of the year 2464

    def as_number(datum):
        seconds = datetime.fromisoformat(datum["id"]["timestamp"]).timestamp() - later
        datum["id"]["timestamp"] = str(seconds) if unit == "text" else round(seconds * PER_SECOND[unit], 3)

    before = np.array([frame.time for frame in load(root).frames])
    edit_datums(root, as_number)
    np.testing.assert_allclose([frame.time for frame in load(root).frames], before - later, rtol=0, atol=1e-3)
