"""Windows as samples: of (seed, n), of one camera, of one split; what cannot be used is counted and named."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from rig3r_jax.data.build import build_records
from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.options import PipelineOptions, WindowOptions
from rig3r_jax.data.pipeline import make_loader
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.cut_by_time import SPLITS
from rig3r_jax.data.sources.procedural.source import SPLITS as WORLD_SPLITS
from rig3r_jax.data.window_stream import WindowStream
from tests.data.recordings import drop_rows, make_recording
from tests.data.records_test import change_frame
from tests.data.scenes import make_scene

OPTIONS = PipelineOptions(num_views=4, image_size=16, min_draws=1000)
WINDOWS = WindowOptions(views=4, reach=5, consecutive=0.5, stride=2)
SCENES = [make_scene(seed, steps=9 + seed, cameras=1 + seed, size=(16, 16)) for seed in range(3)]
SMALL_TUM = {"intrinsics": [50.0, 51.0, 31.5, 23.5], "window": 10, "min_frames": 4, "fractions": (0.5, 0.25, 0.25)}


def make_stream(scenes=SCENES, options=OPTIONS, windows=WINDOWS, seed=1):
    return WindowStream([("worlds", scenes)], options, windows, seed)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def scene_and_frames(stream, window):
    """The scene of a window, and its frames as the scene has them."""
    sequence = stream.sequences[window.sequence]
    scene = stream.sources[sequence.source][1][sequence.record]
    return scene, [scene.frames[i] for i in sequence.frames[window.frames]]


def moved_to_first(world_from_camera):
    return np.linalg.inv(world_from_camera[0]) @ world_from_camera


def streams_and_places(records, splits, source="tum"):
    """By split, its stream, and the places of all frames of its sequences, as bytes."""
    streams = {split: WindowStream([(source, RecordSource(records, split))], OPTIONS, WINDOWS, 0) for split in splits}
    places = {
        split: {matrix.tobytes() for sequence in stream.sequences.values() for matrix in sequence.world_from_camera}
        for split, stream in streams.items()
    }
    return streams, places


def test_sample_is_a_pure_function_of_seed_and_n():
    stream, other = make_stream(), make_stream()
    expected = [stream[n] for n in range(12)]
    for n in (11, 3, 7, 3, 0):
        assert_same(other[n], expected[n])
        assert other.window(n).name == stream.window(n).name
    assert len({sample.views.images.tobytes() for sample in expected}) == 12
    assert make_stream(seed=2)[0].views.images.tobytes() not in {s.views.images.tobytes() for s in expected}
    assert stream.quarantine.draws == 12 + len(SCENES) and stream.quarantine.bad_draws == 0


def test_a_window_is_of_one_camera_ascending_its_first_frame_the_reference():
    stream = make_stream()
    assert set(stream.sequences) == {f"worlds/scene_{i}/camera_{c}" for i in range(3) for c in range(i + 1)}
    for n in range(40):
        sample, window = stream[n], stream.window(n)
        scene, frames = scene_and_frames(stream, window)
        camera = stream.sequences[window.sequence].frames[0] % len(scene.cameras)
        assert window.name == f"{window.sequence}[{','.join(str(frame.step) for frame in frames)}]"
        assert window.sequence == f"worlds/{scene.name}/camera_{camera}"
        assert (np.diff(window.frames) > 0).all() and (sample.targets.camera_index == camera).all()
        relative = moved_to_first(np.stack([frame.world_from_camera for frame in frames]))
        np.testing.assert_allclose(sample.targets.reference_from_camera, relative, atol=1e-5)
        np.testing.assert_allclose(sample.targets.time, [frame.time - frames[0].time for frame in frames], atol=1e-6)
    drawn = {stream.window(n).sequence for n in range(200)}
    assert drawn == set(stream.sequences)


def test_frames_are_ordered_by_step_whatever_the_order_of_the_scene():
    scene = dataclasses.replace(SCENES[1], frames=SCENES[1].frames[::-1])
    shuffled, sorted_ = make_stream([scene]), make_stream([SCENES[1]])
    for name, sequence in sorted_.sequences.items():
        np.testing.assert_array_equal(shuffled.sequences[name].times, sequence.times)
        assert (np.diff(sequence.times) > 0).all()
    assert_same(shuffled[5], sorted_[5])


def test_given_frames_are_a_sample_of_their_own():
    stream = make_stream(options=OPTIONS.for_evaluation())
    name = "worlds/scene_2/camera_1"
    sample = stream.sample(name, range(2, 8))
    assert_same(sample, make_stream(options=OPTIONS.for_evaluation()).sample(name, [2, 3, 4, 5, 6, 7]))
    relative = moved_to_first(stream.sequences[name].world_from_camera[2:8])
    np.testing.assert_allclose(sample.targets.reference_from_camera, relative, atol=1e-5)
    window = stream.window(7)
    by_frames = stream.sample(window.sequence, window.frames)
    np.testing.assert_array_equal(by_frames.views.images, stream[7].views.images)  # only ids are drawn
    with pytest.raises(ValueError, match=r"camera_1: frames \[9, 10, 11\] must be some of 0..10"):
        stream.sample(name, [9, 10, 11])
    with pytest.raises(ValueError, match=r"nowhere: no such sequence.*there are worlds/scene_0/camera_0, .*and 1 more"):
        stream.sample("nowhere", [0])


def test_loader_gives_the_samples_in_order():
    stream = make_stream()
    batches = list(make_loader(stream, 4, num_batches=5, num_threads=3))
    assert len(batches) == 5 and stream.quarantine.draws == 20 + len(SCENES)
    for k, batch in enumerate(batches):
        assert_same(jax.tree.map(lambda x: x[2], batch), make_stream()[4 * k + 2])


@pytest.mark.parametrize("change", [{"depth": b"D"}, {"image": b"\xff\xd8"}], ids=["depth", "image"])
def test_a_frame_that_cannot_be_used_is_replaced_counted_and_named(change):
    """Frame 4 of camera 0 of scene_1 is corrupt in the records."""
    scenes = [SCENES[0], change_frame(SCENES[1], 8, **change), SCENES[2]]
    good, stream = make_stream(), make_stream(scenes)
    with ThreadPoolExecutor(3) as pool:
        samples = list(pool.map(stream.__getitem__, range(80)))
    hit = {n for n in range(80) if good.window(n).sequence.endswith("scene_1/camera_0") and 4 in good.window(n).frames}
    assert len(hit) > 3
    for n, sample in enumerate(samples):
        assert (stream.window(n).name != good.window(n).name) == (n in hit)
        if n in hit:
            assert_same(sample, stream[n])
            _, frames = scene_and_frames(stream, stream.window(n))
            relative = moved_to_first(np.stack([frame.world_from_camera for frame in frames]))
            np.testing.assert_allclose(sample.targets.reference_from_camera, relative, atol=1e-5)
        else:
            assert_same(sample, good[n])
    assert set(stream.quarantine.counts) == {"worlds/scene_1/camera_0"}
    assert "scene scene_1, camera camera_0, step 4" in stream.quarantine.reasons["worlds/scene_1/camera_0"]
    with pytest.raises(BadRecord, match="scene scene_1, camera camera_0, step 4"):
        stream.sample("worlds/scene_1/camera_0", range(8))


def test_replacements_are_no_windows_of_other_samples():
    scene = make_scene(5, steps=400, cameras=1, size=(4, 4))
    stream = make_stream([scene], windows=WindowOptions(views=4, reach=100))
    first = [stream._sampler.draw(n).name for n in range(100)]
    later = [stream._sampler.draw(n, attempt).name for n in range(100) for attempt in (1, 2)]
    assert len(set(first) | set(later)) == 300


def test_too_many_bad_frames_stop_the_run():
    bad = SCENES[0]
    for i in range(len(bad.frames)):
        bad = change_frame(bad, i, depth=b"")
    stream = make_stream([bad], dataclasses.replace(OPTIONS, min_draws=20))
    with pytest.raises(BadRecord, match=r"over the budget of max_bad_fraction=0.05: worlds/scene_0/camera_0 \(scene"):
        stream[0]
    with pytest.raises(BadRecord, match="sample 3: none of 100 draws could be used, the last: scene scene_0"):
        make_stream([bad])[3]


class Unreadable:
    """Three scenes of which the second does not read."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise BadRecord("part-0.array_record: record 1 does not read")
        return SCENES[index]


def test_a_scene_that_does_not_read_is_left_out_counted_and_named(own_warnings):
    stream = make_stream(Unreadable())
    assert {name.split("/")[1] for name in stream.sequences} == {"scene_0", "scene_2"}
    assert stream.quarantine.draws == 3
    assert stream.quarantine.reasons == {"worlds[1]": "part-0.array_record: record 1 does not read"}
    (line,) = own_warnings()
    assert "1 scenes do not read: worlds[1] (part-0.array_record: record 1" in line
    for n in range(20):
        stream[n]


def test_scenes_are_read_again_unless_they_are_cached():
    class Counting(list):
        readings = 0

        def __getitem__(self, index):
            self.readings += 1
            return super().__getitem__(index)

    plain, kept = Counting(SCENES), Counting(SCENES)
    streams = make_stream(plain), make_stream(CachedSource(kept, 1.0))
    for n in range(10):
        assert_same(*(stream[n] for stream in streams))
    assert plain.readings == 13 and kept.readings == 3


def test_sequence_shorter_than_a_window_is_left_out_and_counted(own_warnings):
    scenes = [make_scene(10 + i, steps=6, cameras=2, size=(16, 16)) for i in range(3)] + [SCENES[0]]
    stream = make_stream(scenes)  # consecutive windows of 4 views, every second frame, need 7
    assert list(stream.sequences) == ["worlds/scene_0/camera_0"]
    assert stream.too_short == {f"worlds/scene_1{i}/camera_{c}": 6 for i in range(3) for c in range(2)}
    (line,) = own_warnings()
    assert "6 sequences with less than the 7 frames that a window needs (views=4): worlds/scene_10/camera_0 (6" in line
    assert line.endswith("and 1 more")
    only_varied = make_stream(scenes, windows=WindowOptions(views=4))
    assert len(only_varied.sequences) == 7 and not only_varied.too_short


def test_no_sequence_long_enough_is_one_error():
    with pytest.raises(
        BadRecord,
        match=r"none of 6 sequences has the 32 frames that a window needs \(views=32\); the longest: "
        r"worlds/scene_2/camera_0 \(11 frames\), .*; lower views or stride of the windows, or build records of longer",
    ):
        options = dataclasses.replace(OPTIONS, num_views=32)
        make_stream(options=options, windows=WindowOptions(views=32, reach=40))


def test_what_does_not_fit_together_is_one_error():
    with pytest.raises(ValueError, match="b: no records.*seed -1.*num_views=4 must be equal to views=8 of the windows"):
        WindowStream([("a", SCENES), ("b", [])], OPTIONS, WindowOptions(), -1)
    with pytest.raises(ValueError, match="no sources"):
        WindowStream([], OPTIONS, WINDOWS, 0)
    with pytest.raises(ValueError, match="a/scene_0/camera_0 is there twice; give the sources different names"):
        WindowStream([("a", SCENES), ("a", SCENES)], OPTIONS, WINDOWS, 0)
    assert len(WindowStream([("a", SCENES), ("b", SCENES)], OPTIONS, WINDOWS, 0).sequences) == 12


def test_splits_of_worlds_share_no_frame(tmp_path):
    options = {"train_worlds": 3, "test_worlds": 2, "steps": 8, "image_size": 16, "max_cameras": 3, "fixed_rigs": 2}
    build_records("procedural", make_source("procedural", "", options), tmp_path / "out", progress=False)
    streams, places = streams_and_places(tmp_path / "out", WORLD_SPLITS, source="procedural")
    assert all(len(stream.sequences) >= 2 for stream in streams.values())
    assert len(set.union(*places.values())) == sum(map(len, places.values()))
    images = {split: set() for split in WORLD_SPLITS}
    for split, stream in streams.items():
        for n in range(20):
            stream[n]
            images[split] |= {frame.image for frame in scene_and_frames(stream, stream.window(n))[1]}
    assert len(set.union(*images.values())) == sum(map(len, images.values()))


def test_recording_with_gaps_and_a_corrupt_depth_image(tmp_path, caplog):
    root = make_recording(tmp_path / "fr2_made", 80, size=(48, 64))
    drop_rows(root / "groundtruth.txt", *range(24, 28))  # frames without a pose
    (root / "depth/13.png").write_bytes(b"no image")
    with caplog.at_level("INFO"):
        report = build_records("tum", make_source("tum", str(root), SMALL_TUM), tmp_path / "out", progress=False)
    assert "76 of 80 images have depth and pose (0 have no depth under 0.02 s away, 4 no pose" in caplog.text
    *unmatched, (scene, frame) = report.left_out
    assert [frame.frame for _, frame in unmatched] == [f"rgb/{i}.png" for i in range(24, 28)]
    assert scene == "train/fr2_made_00009" and not report.skipped
    assert "fr2_made/depth/13.png: depth image of 8 bytes does not decode" in frame.reason

    streams, places = streams_and_places(tmp_path / "out", SPLITS)
    numbers = {split: sorted(np.frombuffer(p).reshape(4, 4)[0, 3] for p in poses) for split, poses in places.items()}
    assert numbers == {
        "train": [*range(13), *range(14, 24), *range(28, 42)],
        "validation": [*range(42, 61)],
        "test": [*range(61, 80)],
    }
    for stream in streams.values():
        for n in range(10):
            sample, window = stream[n], stream.window(n)
            x = stream.sequences[window.sequence].world_from_camera[window.frames, 0, 3]
            np.testing.assert_allclose(sample.targets.reference_from_camera[:, 0, 3], x - x[0], atol=1e-5)
        assert stream.quarantine.bad_draws == 0


REAL = {
    "tum": ("realdata/tum_fr3_cabinet", {"intrinsics": "freiburg3"}),
    "sevenscenes": ("realdata/sevenscenes_redkitchen", {"stride": 2}),
}


@pytest.mark.parametrize("source", REAL)
def test_windows_of_real_recordings(shared, tmp_path, source):
    folder, own = REAL[source]
    options = {"window": 16, "min_frames": 8, "fractions": [0.5, 0.25, 0.25], **own}
    build_records(source, make_source(source, str(shared / folder), options), tmp_path / "out", progress=False)
    pipeline = PipelineOptions(num_views=8, image_size=64).for_evaluation()
    images = {}
    for split in SPLITS:
        records = CachedSource(RecordSource(tmp_path / "out", split), 0.1)
        stream = WindowStream([(source, records)], pipeline, WindowOptions(views=8, varied=0.5, consecutive=0.5), 0)
        images[split] = set()
        for n in range(6):
            sample, window = stream[n], stream.window(n)
            assert sample.views.images.shape == (8, 64, 64, 3) and sample.targets.valid.mean() > 0.2
            rotations = sample.targets.reference_from_camera[:, :3, :3]
            np.testing.assert_allclose(rotations @ rotations.mT, np.tile(np.eye(3), (8, 1, 1)), atol=2e-6)
            relative = moved_to_first(stream.sequences[window.sequence].world_from_camera[window.frames])
            np.testing.assert_allclose(sample.targets.reference_from_camera, relative, atol=1e-6)
            assert np.linalg.norm(relative[1:, :3, 3], axis=1).min() > 1e-3
            images[split] |= {frame.image for frame in scene_and_frames(stream, window)[1]}
        assert stream.quarantine.bad_draws == 0 and not stream.too_short
    assert len(set.union(*images.values())) == sum(map(len, images.values()))
