"""Data of a source that are cut, damaged or wrong cost themselves, are counted and named."""

import dataclasses
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data import sources
from rig3r_jax.data.build import build_records
from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.pipeline import SampleStream
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import DenseDepth
from rig3r_jax.data.sources.dgp_times import seconds_of
from rig3r_jax.data.sources.folder.images import exif_time
from rig3r_jax.geometry.camera import Pinhole
from tests.data.records_test import change_camera, change_frame
from tests.data.rig_folders import make_folder
from tests.faults.faults import fault
from tests.faults.made_scenes import OPTIONS, scene_of


def damaged_jpeg(data, rng):
    """Bytes of the pixels overwritten, so that the decoder stumbles."""
    changed = bytearray(data)
    at = int(rng.integers(len(data) // 2, len(data) - 40))
    changed[at : at + 30] = b"\xa5" * 30
    return bytes(changed)


@fault(
    27,
    what="Bytes in the middle of JPEGs of a source are overwritten; others are empty, or end early.",
    seen="The build names them: `image of 900 bytes is damaged behind its header (Corrupt JPEG data: ...)`.",
    kept="All other frames of the scene; `quarantine.json` of the records lists frames and reasons.",
)
def test_damaged_jpegs_are_left_out_of_a_build(build):
    """Fault 27: JPEGs are damaged behind their headers, empty or cut."""
    scene, rng = scene_of(1, encoding=".jpg"), np.random.default_rng(0)
    jpeg = scene.frames[4].image
    bad = {4: damaged_jpeg(jpeg, rng), 5: b"", 7: jpeg[:-30]}
    for number, data in bad.items():
        scene = change_frame(scene, number, image=data)
    report = build([scene])
    assert report.frames == len(scene.frames) - len(bad)
    reasons = [frame.reason for _, frame in report.left_out]
    assert len(reasons) == len(bad) and {frame.kind for _, frame in report.left_out} == {"image"}
    assert "is damaged behind its header (Corrupt JPEG data" in reasons[0]
    assert json.loads((report.path / "quarantine.json").read_text())[0]["frame"] == "camera_1, step 1"


@fault(
    28,
    what="Depths are NaN or infinite, negative, empty, or of another size than their image.",
    seen="Pixels without a finite positive depth have none; frames whose depth does not decode are left out, named.",
    kept="All frames with usable depth, and all poses and rays.",
)
def test_depth_that_is_none_is_unknown_or_left_out(build):
    """Fault 28: depths are NaN, infinite, negative, empty or of another size."""
    scene = scene_of(3)
    values = np.full((24, 32), np.nan, np.float32)
    values[0], values[1], values[2] = np.inf, -1.0, 5.0
    scene = change_frame(scene, 0, depth=encode_depth(DenseDepth(values)))
    scene = change_frame(scene, 1, depth=b"")
    scene = change_frame(scene, 2, depth=encode_depth(DenseDepth(np.ones((3, 4), np.float32))))
    report = build([scene])
    assert [frame.kind for _, frame in report.left_out] == ["depth", "depth"] and report.frames == 10
    source = RecordSource(report.path, "train")
    sample = SampleStream([("made", source, 1.0)], dataclasses.replace(OPTIONS, min_draws=1000), 0)
    for n in range(20):
        targets = sample[n].targets
        assert np.isfinite(targets.depth).all() and (targets.depth[targets.valid] > 0).all()


SHEARED = np.array([[1, 0.1, 0, 0], [0, 1, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@fault(
    29,
    what="A calibration is sheared, mirrored (determinant -1), has f <= 0, NaN, or cx = 1e6; poses contradict the rig.",
    seen="The build leaves the scene out: `scene s, camera c: ...`, or the file that has the number, with the value, "
    "the rule and the remedy.",
    kept="All other scenes.",
)
def test_bad_calibrations_are_named(build):
    """Fault 29: calibrations that cannot be are in some of the scenes."""
    good, scene = [scene_of(number) for number in range(10, 20)], scene_of(4)
    place = scene.cameras[1].rig_from_camera

    def lens(**entries):
        intrinsics = np.array(scene.cameras[1].lens.intrinsics)
        for row, column, value in entries.values():
            intrinsics[row, column] = value
        made = object.__new__(Pinhole)
        made.__dict__.update(Pinhole(np.array(scene.cameras[1].lens.intrinsics)).__dict__, intrinsics=intrinsics)
        return made

    turned = scene
    for number, frame in enumerate(scene.frames):
        if frame.camera == 1:
            turned = change_frame(turned, number, world_from_camera=frame.world_from_camera @ np.diag([-1, 1, -1, 1.0]))
    bad = {
        "no rotation": change_camera(scene, 1, rig_from_camera=place @ SHEARED),
        "determinant -1": change_camera(scene, 1, rig_from_camera=place @ np.diag([1, 1, -1, 1.0])),
        "must be positive pixels; correct the calibration": change_camera(scene, 1, lens=lens(f=(0, 0, -5.0))),
        "must be a finite 3x3": change_camera(scene, 1, lens=lens(f=(0, 0, np.nan))),
        "cx = 1e\\+06 lies farther": change_camera(scene, 1, lens=lens(c=(0, 2, 1e6))),
        "focal length fx = 1e\\+06": change_camera(scene, 1, lens=lens(f=(0, 0, 1e6))),
        "must be positive, at most": change_camera(scene, 1, size=(24, 10**9)),
        "1(79|80) degrees and .* from where the rig puts it": turned,
    }
    named = [dataclasses.replace(wrong, name=f"bad_{number}") for number, wrong in enumerate(bad.values())]
    report = build([*good, *named])
    assert report.splits == {"train": len(good)}
    for (name, reason), rule in zip(report.skipped, bad, strict=True):
        assert re.search(rule, reason), (name, rule, reason)


@fault(
    30,
    what="Times repeat, do not ascend, are NaN, jump by a year; the clock of a camera is 10 s or an hour off.",
    seen="The fewest frames are left out, of the kind `time`: `time T s is +10 s from the median of its step, ...`.",
    kept="The frames whose times agree.",
)
@pytest.mark.parametrize("seconds", [10.0, -3600.0])
def test_times_that_do_not_agree_are_left_out(build, seconds):
    """Fault 30: times repeat, run backwards and jump; a camera's clock is off."""
    scene = scene_of(5)
    for number in (3, 6, 9):  # of camera 0, all but the first
        scene = change_frame(scene, number, time=scene.frames[number].time + seconds)
    report = build([scene])
    assert report.frames == 9 and {frame.kind for _, frame in report.left_out} == {"time"}
    apart = r"is [+-](9.98|3600.01) s from the median of its step, must be within 1 s; correct the times"
    assert re.search(apart, report.left_out[0][1].reason)

    scene = scene_of(6)
    times = [frame.time for frame in scene.frames]
    times[4], times[7], times[11] = times[1], np.nan, times[11] + 0.5
    for number in (9, 10, 11):  # the last step
        times[number] += 365 * 86400
    for number, seconds in enumerate(times):
        scene = change_frame(scene, number, time=seconds)
    report = build([scene], "jumps")
    assert report.frames == 12 - 5
    assert any("times jump by +3.1536e+07 s from step 2 to step 3, may by 60 s" in f.reason for _, f in report.left_out)


@fault(
    30,
    what="Times are written as text without a time zone, on machines of different zones.",
    seen="The same seconds everywhere: such text is UTC.",
    kept="The same records, byte for byte.",
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_times_without_a_zone_are_utc(monkeypatch, tmp_path, zone):
    """Fault 30: the machine is in another time zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert seconds_of("2019-06-01T12:00:00.5", tmp_path) == seconds_of("2019-06-01T12:00:00.5Z", tmp_path)
        assert seconds_of("2019-06-01T12:00:00.5", tmp_path) == 1559390400.5
        photograph, exif = Image.new("RGB", (8, 8)), Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = "2019:06:01 12:00:00"
        photograph.save(tmp_path / "a.jpg", exif=exif)
        assert exif_time(tmp_path / "a.jpg") == 1559390400.0
    finally:
        monkeypatch.undo()
        time.tzset()


@fault(
    31,
    what="An image that the files list is missing, and so is a whole camera of a step.",
    seen="`left out of N frames (image 1)`, and the path in `quarantine.json`; a missing camera takes no line.",
    kept="The other frames; samples are drawn of the cameras that are there.",
)
def test_missing_images_cost_themselves(tmp_path):
    """Fault 31: image files are deleted from a data set."""
    root = make_folder(tmp_path / "rig")
    images = sorted(path for camera in ("left", "right") for path in (tmp_path / "rig").rglob(f"{camera}/*.png"))
    images = [path for path in images if not {"depth", "masks"} & set(path.parts)]
    images[3].write_bytes(b"")
    images[-1].unlink()
    source = sources.make_source("folder", str(root), {"window": 8, "longest_gap": 0.3})
    report = build_records("folder", source, tmp_path / "records", 0.5, False)
    assert report.frames == len(images) - 2
    assert [frame.kind for _, frame in report.left_out] == ["image"]
    assert images[3].name in report.left_out[0][1].reason
