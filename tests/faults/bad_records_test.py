"""Files of records that are cut, replaced or changed on the disk: what is damaged is named, and none of it is drawn."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from rig3r_jax.data.pipeline import SampleStream, make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.inspection.every_record import read_every_record
from rig3r_jax.training.rig3r.kept_quarantine import KeptQuarantine
from tests.data.records_test import change_frame
from tests.data.scenes import make_scene
from tests.faults.faults import fault
from tests.faults.made_scenes import OPTIONS, scene_of


def frames_file(folder):
    return next(folder.glob("rig_frames/*/*array_record*"))


@fault(
    26,
    what="A file of records is cut in the middle of a run, which has it open.",
    seen="Draws fail, counted in `data/bad_draws`, until they are over the budget, which counts from draw 100 on: "
    "`FILE: record 7 does not read ...`; exit code 2. What `data.cache_gigabytes` holds is not read again.",
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
    told = r"(\d+) of (\d+) draws of made could not be used.*array_record-\d+: record \d+ does not read"
    with pytest.raises(BadRecord, match=told) as raised:
        for _ in range(200):
            next(loader)
    kept = KeptQuarantine(stream.quarantine, tmp_path, resumed=False)
    kept.save()
    saved = read_json(kept.path)
    rows = saved["records"]
    bad, draws = map(int, re.search(told, str(raised.value)).groups())  # though threads of the loader draw on
    assert (bad, draws) == (sum(row["count"] for row in rows), sum(saved["draws"].values())) and draws >= 10
    assert all("rig_frames-train.array_record" in row["reason"] and row["source"] == "made" for row in rows)

    other = SampleStream(stream.sources, OPTIONS, seed=0)
    resumed = KeptQuarantine(other.quarantine, tmp_path, resumed=True)
    assert other.quarantine.to_json() == saved
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
