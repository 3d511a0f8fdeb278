"""The TUM reader on recordings of other tools: times, depths and lists that differ from the benchmark's own."""

import cv2
import numpy as np
import pytest

from rig3r_jax.data.scene import BadRecord
from tests.data.recordings import make_recording, z_depth
from tests.data.sources.tum_test import LISTS, frame_numbers, load_all


@pytest.fixture
def root(tmp_path):
    return make_recording(tmp_path / "rgbd_dataset_freiburg2_made", 40)


def rewrite_times(root, per_second, start, style):
    """Times of a made recording in another unit, and from another time on."""
    for name in LISTS:
        rows = [row.split(maxsplit=1) for row in (root / name).read_text().splitlines() if row[0] != "#"]
        lines = [f"{(float(time) - 1311868164.0 + start) * per_second:{style}} {rest}" for time, rest in rows]
        (root / name).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("unit, per_second", [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_times_of_other_units(root, caplog, unit, per_second):
    rewrite_times(root, per_second, 1311868164.0, ".3f" if unit == "ms" else ".0f")
    scenes = load_all(root, "train")
    gaps = np.diff([frame.time for frame in scenes[0].frames])
    np.testing.assert_allclose(gaps, 1 / 30, atol=1e-5)
    told = (
        f"{root}: times of rgb.txt in {unit}, depth.txt in {unit}, groundtruth.txt in {unit} are converted to seconds"
    )
    assert caplog.text.count(told) == 1
    load_all(root, "validation", min_frames=4)
    assert caplog.text.count(told) == 1  # once for all splits


@pytest.mark.parametrize("unit, per_second", [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_times_since_the_start_want_their_unit(root, unit, per_second):
    rewrite_times(root, per_second, 0.0, ".3f")
    with pytest.raises(BadRecord, match=rf"rgb.txt: its times are .* apart in the median.*set time_unit={unit} "):
        load_all(root, "train")
    (scene,) = load_all(root, "train", time_unit=unit)
    np.testing.assert_allclose(np.diff([frame.time for frame in scene.frames]), 1 / 30, atol=1e-5)


def test_depth_in_millimetres_is_named_and_read(root):
    for path in (root / "depth").iterdir():
        cv2.imwrite(str(path), np.full((480, 640), 2000, np.uint16))
    message = (
        r"depth/0.png: median depth of 5 images from here on is 0.4 m with depth_scale=5000, must be 0.5 to 20 m; "
        r"set depth_scale=1000 \(millimetres: 2 m\), or widen plausible_depth"
    )
    with pytest.raises(BadRecord, match=message):
        load_all(root, "train")
    for options, metres in (({"depth_scale": 1000.0}, 2.0), ({"plausible_depth": (0.3, 20.0)}, 0.4)):
        (scene,) = load_all(root, "train", **options)
        assert abs(z_depth(scene, scene.frames[0])[3, 3] - metres) < 1e-3


def test_lists_of_other_tools(root):
    """Commas under names, a byte order mark, Windows ends of lines, Latin-1 in a comment."""
    for name in LISTS:
        rows = (root / name).read_text().splitlines()
        names = "timestamp,tx,ty,tz,qx,qy,qz,qw" if name == "groundtruth.txt" else "timestamp,filename"
        text = "\r\n".join([names, "", *(row.replace(" ", ",") for row in rows if row[0] != "#")])
        mark = b"# K\xf6ln\n" if name == "rgb.txt" else b"\xef\xbb\xbf"
        (root / name).write_bytes(mark + text.encode())
    assert frame_numbers(load_all(root, "train")[0]) == list(range(28))
