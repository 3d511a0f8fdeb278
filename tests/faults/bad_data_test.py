"""Data that are cut, damaged or wrong cost themselves, are counted and named, and too many of them end a run."""

import dataclasses
import json
import os
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data import sources
from rig3r_jax.data.build import build_records
from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream, make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord, DenseDepth
from rig3r_jax.data.sources.dgp_times import seconds_of
from rig3r_jax.data.sources.folder.images import exif_time
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.inspection.every_record import read_every_record
from rig3r_jax.training.rig3r.kept_quarantine import KeptQuarantine
from tests.data.made_source import make_source
from tests.data.records_test import change_camera, change_frame
from tests.data.scenes import make_scene
from tests.faults.faults import fault

OPTIONS = PipelineOptions(num_views=2, image_size=16, grids=((2, 1),), min_draws=10, max_bad_fraction=0.3)


def scene_of(number, **options):
    return make_scene(number, steps=4, cameras=3, size=(24, 32), **options)


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Builds records of these scenes below the test's folder."""

    def of(scenes, name="records", max_bad_fraction=0.5):
        loaders = [(scene.name, lambda scene=scene: scene) for scene in scenes]
        make_source(monkeypatch, {"train": loaders})
        return build_records("made", sources.make_source("made", "", {}), tmp_path / name, max_bad_fraction, False)

    return of


def frames_file(folder):
    return next(folder.glob("rig_frames/*/*array_record*"))


@fault(
    26,
    what="A file of records is cut in the middle of a run, which has it open.",
    seen="Draws fail, counted in `data/bad_draws`, until they are over the budget: `FILE: record 7 does not read ...`.",
    kept="The run ends with its reason; `quarantine.json` lists records, counts and reasons, over resumes too.",
)
def test_a_record_file_cut_under_a_run_is_named(build, tmp_path):
    """Fault 26: a file of records is cut while a loader with threads reads it."""
    scenes = [make_scene(number, steps=4, cameras=3, size=(160, 240)) for number in range(6)]  # more than buffers hold
    folder = build(scenes).path
    stream = SampleStream([("made", RecordSource(folder, "train"), 1.0)], OPTIONS, seed=0)
    loader = make_loader(stream, 2, num_threads=2, prefetch=2)
    next(loader)
    for file in folder.glob("rig_frames/*/*array_record*"):
        os.truncate(file, file.stat().st_size // 3)
    with pytest.raises(BadRecord, match=r"draws of made could not be used.*array_record-\d+: record \d+ does not read"):
        for _ in range(200):
            next(loader)
    kept = KeptQuarantine(stream.quarantine, tmp_path, resumed=False)
    before = stream.quarantine.bad_draws  # threads of the loader may draw on
    kept.save()
    rows = read_json(kept.path)["records"]
    assert before <= sum(row["count"] for row in rows) <= stream.quarantine.bad_draws
    assert all("rig_frames-train.array_record" in row["reason"] and row["source"] == "made" for row in rows)

    other = SampleStream(stream.sources, OPTIONS, seed=0)
    resumed = KeptQuarantine(other.quarantine, tmp_path, resumed=True)
    assert other.quarantine.to_json() == stream.quarantine.to_json()
    other.quarantine._max_bad_fraction = 1.0
    other.quarantine.add("made", rows[0]["record"], BadRecord("again"))
    resumed.save()
    assert read_json(kept.path)["records"][0]["count"] == rows[0]["count"] + 1


@fault(
    26,
    what="A file of records is cut, half copied (zeros at its end) or replaced by that of another folder.",
    seen="One line at the start: `FILE: has 3 bytes, was written with 4` or `is another file than was written here`.",
    kept="The records as they are; nothing is read of them.",
)
@pytest.mark.parametrize("way", ["cut", "half copied", "swapped"])
def test_a_folder_of_records_that_is_not_whole_is_not_opened(build, tmp_path, way):
    """Fault 26: a folder of records is not as it was written."""
    folder = build([scene_of(0)]).path
    file = frames_file(folder)
    if way == "cut":
        os.truncate(file, file.stat().st_size - 1)
    elif way == "half copied":
        size = file.stat().st_size
        file.write_bytes(file.read_bytes()[: size // 10] + bytes(size - size // 10))
    else:
        scene = scene_of(0)
        other = build([change_frame(scene, 0, time=scene.frames[0].time - 1e-3)], "other").path
        names = [next(place.glob("rig_scenes/*/*array_record*")) for place in (folder, other)]
        assert names[0].stat().st_size == names[1].stat().st_size
        file = names[0]
        shutil.copy(names[1], file)
    with pytest.raises(BadRecord, match=rf"{file.name}: (has|is another file)"):
        RecordSource(folder, "train")


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
    27,
    what="A byte of an image in a file of records changes on the disk, any byte, between its ends.",
    seen="`FILE: record 3 does not read`, by the checksums of the file; or the pixels are right.",
    kept="No pixel is ever drawn that was not written.",
)
def test_a_byte_that_changes_in_a_record_is_found(build):
    """Fault 27: a byte of a file of records is flipped."""
    scene = scene_of(2, encoding=".jpg")
    folder = build([scene]).path
    file = frames_file(folder)
    whole = file.read_bytes()
    places = np.flatnonzero(np.frombuffer(whole, np.uint8))[100::1999].tolist()
    assert [str(read) for read in read_every_record(folder)] == ["train: 1 scenes, 12 frames read: all whole"]
    damaged = 0
    for at in places:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        images = []
        for frame in _opened(folder)[0].frames:
            try:
                images.append(frame.image)
            except BadRecord as error:
                assert file.name in str(error)
        assert set(images) <= {frame.image for frame in scene.frames}
        damaged += len(images) < len(scene.frames)
        (read,) = read_every_record(folder)
        assert len(read.damaged) == len(scene.frames) - len(images)
        assert all(file.name in line for line in read.damaged)
    assert damaged > len(places) // 2


def _opened(folder):
    """As a run that had it open before: the ends of this small file are all of it."""
    build = folder / "build.json"
    content = read_json(build)
    build.write_text(json.dumps({**content, "ends": {}}))
    return RecordSource(folder, "train")


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
    seen="The build leaves the scene out: `scene s, camera c: ...` with the value, the rule and the remedy.",
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
        "must be positive pixels": change_camera(scene, 1, lens=lens(f=(0, 0, -5.0))),
        "must be a finite 3x3": change_camera(scene, 1, lens=lens(f=(0, 0, np.nan))),
        "cx = 1e\\+06 lies farther": change_camera(scene, 1, lens=lens(c=(0, 2, 1e6))),
        "focal length fx = 1e\\+06": change_camera(scene, 1, lens=lens(f=(0, 0, 1e6))),
        "must be positive, at most": change_camera(scene, 1, size=(24, 10**9)),
        "1(79|80) degrees and .* from where the rig puts it": turned,
    }
    named = [dataclasses.replace(one, name=f"bad_{number}") for number, one in enumerate(bad.values())]
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
    from tests.data.rig_folders import make_folder

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
