import collections
import dataclasses
import threading

import jax
import numpy as np
import pytest

from rig3r_jax.data.options import GREY, PipelineOptions
from rig3r_jax.data.pipeline import SampleStream, draw_sample, make_loader
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry.camera import Fisheye
from tests.data.scenes import make_scene

OPTIONS = PipelineOptions(num_views=6, image_size=16, grids=((2, 3), (3, 2)), max_stride=2)
SCENES = [make_scene(seed, steps=5, cameras=3 + seed % 2, size=(16, 16)) for seed in range(5)]


def make_stream(options=OPTIONS, seed=1, sources=None):
    return SampleStream(sources or [("worlds", SCENES, 1.0)], options, seed)


def load(count, **arguments):
    return list(make_loader(make_stream(), num_batches=count, **arguments))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def corrupted(scene):
    return dataclasses.replace(scene, frames=tuple(dataclasses.replace(f, image=b"\xff\xd8") for f in scene.frames))


def test_shapes_and_types():
    sample = make_stream()[0]
    views, targets = sample.views, sample.targets
    assert views.images.shape == (6, 16, 16, 3) and views.images.dtype == np.uint8
    assert views.image_mask.shape == targets.valid.shape == targets.depth.shape == (6, 16, 16)
    assert targets.reference_from_camera.shape == (6, 4, 4) and targets.intrinsics.shape == (6, 3, 3)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(sample)}
    assert kinds == {"uint8", "bool", "float32", "int32"}
    assert all(isinstance(leaf, np.ndarray) and len(leaf) == 6 for leaf in jax.tree.leaves(sample))


def test_sample_is_a_pure_function_of_seed_and_n():
    stream, other = make_stream(), make_stream()
    expected = [stream[n] for n in range(12)]
    for n in (11, 3, 7, 3, 0):  # any order, any number of times
        assert_same(other[n], expected[n])
    images = {sample.views.images.tobytes() for sample in expected}
    assert len(images) == 12
    assert make_stream(seed=2)[0].views.images.tobytes() not in images


@pytest.mark.parametrize("threads", [0, 3])
def test_resumed_stream_equals_the_uninterrupted_one(threads):
    whole = load(6, global_batch=4, num_threads=threads)
    rest = load(3, global_batch=4, start_sample=12, num_threads=2)
    assert len(whole) == 6
    for a, b in zip(whole[3:], rest, strict=True):
        assert_same(a, b)
    stream = make_stream()
    assert_same(jax.tree.map(lambda x: x[2], whole[5]), stream[5 * 4 + 2])


def test_batch_of_one_is_the_sample():
    (batch,) = load(1, global_batch=1, start_sample=5)
    assert_same(jax.tree.map(lambda x: x[0], batch), make_stream()[5])
    assert all(leaf.shape[0] == 1 for leaf in jax.tree.leaves(batch))


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_global_batches(processes):
    whole = load(3, global_batch=8, start_sample=8)
    shares = [
        load(3, global_batch=8, start_sample=8, process_index=i, process_count=processes) for i in range(processes)
    ]
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert_same(batch, jax.tree.map(lambda *rows: np.concatenate(rows), *parts))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_endless_loader_of_any_batch_size_can_be_closed(size):
    before = threading.active_count()
    loader = make_loader(make_stream(), global_batch=size, start_sample=10**7)
    assert_same(jax.tree.map(lambda x: x[-1], next(loader)), make_stream()[10**7 + size - 1])
    loader.close()
    assert threading.active_count() <= before + 2


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match="global_batch=6 must be a positive multiple of the 4 processes"):
        make_loader(make_stream(), global_batch=6, process_count=4)
    with pytest.raises(ValueError, match="process_index=2 of 2"):
        make_loader(make_stream(), global_batch=6, process_count=2, process_index=2)


def test_geometry_against_the_scene():
    far = make_scene(steps=3, cameras=3, size=(16, 16), origin=(4e6, -3e5, 80.0))
    plain = OPTIONS.for_evaluation()
    stream = make_stream(plain, sources=[("far", [far], 1.0)])
    by_time = {frame.time: frame for frame in far.frames}
    for n in range(10):
        targets = stream[n].targets
        assert (targets.reference_from_camera[0] == np.eye(4)).all() and targets.time[0] == 0
        # The frames follow from what is seen of them: camera and time since the reference.
        seen = list(zip(targets.camera_index, targets.time, strict=True))
        candidates = [[find(far, camera, start + time) for camera, time in seen] for start in by_time]
        fits = [frames for frames in candidates if None not in frames]
        assert fits
        best = min(np.abs(targets.reference_from_camera - relative(frames)).max() for frames in fits)
        assert best < 1e-5
        for i, camera in enumerate(targets.camera_index):
            np.testing.assert_allclose(targets.rig_from_camera[i], far.cameras[camera].rig_from_camera, rtol=1e-6)
            np.testing.assert_allclose(targets.intrinsics[i], far.cameras[camera].lens.intrinsics, rtol=1e-6)


def find(scene, camera, time):
    frames = [frame for frame in scene.frames if frame.camera == camera and abs(frame.time - time) < 1e-4]
    return frames[0] if frames else None


def relative(frames):
    inverse = np.linalg.inv(frames[0].world_from_camera)
    return np.stack([inverse @ frame.world_from_camera for frame in frames])


def test_metadata_is_hidden_half_the_time_and_independently():
    stream = make_stream(dataclasses.replace(OPTIONS, image_size=4))
    visible = []
    for n in range(400):
        metadata, targets = stream[n].views.metadata, stream[n].targets
        masks = (metadata.has_camera_id, metadata.has_time, metadata.has_rig)
        assert all(mask.all() or not mask.any() for mask in masks)
        visible.append([mask[0] for mask in masks])
        if metadata.has_time[0]:
            np.testing.assert_array_equal(metadata.time, targets.time)
        else:
            assert not metadata.time.any()
        if metadata.has_rig[0]:
            np.testing.assert_array_equal(metadata.rig_from_camera, targets.rig_from_camera)
            np.testing.assert_array_equal(metadata.intrinsics, targets.intrinsics)
        else:
            assert (metadata.rig_from_camera == np.eye(4)).all() and (metadata.intrinsics == np.eye(3)).all()
        if not metadata.has_camera_id[0]:
            assert not metadata.camera_id.any()
    visible = np.array(visible)
    assert (np.abs(visible.mean(axis=0) - 0.5) < 0.1).all()
    assert (np.abs(np.corrcoef(visible.T) - np.eye(3)) < 0.15).all()
    everything = make_stream(OPTIONS.for_evaluation())[0].views.metadata
    assert everything.has_camera_id.all() and everything.has_time.all() and everything.has_rig.all()


def test_indices_and_ids():
    stream = make_stream(dataclasses.replace(OPTIONS, metadata_dropout=0.0, image_size=4))
    indices, ids = set(), set()
    for n in range(200):
        metadata, camera_index = stream[n].views.metadata, stream[n].targets.camera_index
        assert metadata.frame_index[0] == 0
        assert len(set(metadata.frame_index.tolist())) == 6
        indices |= set(metadata.frame_index[1:].tolist())
        id_of_camera = dict(zip(camera_index.tolist(), metadata.camera_id.tolist(), strict=True))
        assert [id_of_camera[c] for c in camera_index.tolist()] == metadata.camera_id.tolist()
        assert len(set(id_of_camera.values())) == len(id_of_camera)
        assert 0 in camera_index  # the front camera
        ids |= set(id_of_camera.values())
    assert indices == set(range(1, 101))
    assert len(ids) > 250 and min(ids) >= 0 and max(ids) < 1000


def test_a_camera_keeps_its_intrinsics_within_a_sample():
    targets = make_stream(dataclasses.replace(OPTIONS, crop_scale_range=(0.5, 0.9)))[0].targets
    focal = {c: set() for c in targets.camera_index.tolist()}
    for camera, intrinsics in zip(targets.camera_index.tolist(), targets.intrinsics, strict=True):
        focal[camera].add(intrinsics.tobytes())
    assert all(len(different) == 1 for different in focal.values())


def test_crops_that_are_not_shared_differ_within_a_camera():
    options = dataclasses.replace(OPTIONS, crop_scale_range=(0.5, 0.9), shared_crops=False)
    intrinsics = make_stream(options)[0].targets.intrinsics
    assert len({one.tobytes() for one in intrinsics}) == OPTIONS.num_views
    assert options.for_evaluation().shared_crops


def test_frames_that_are_not_shuffled_go_by_time_the_front_camera_first():
    options = dataclasses.replace(OPTIONS, shuffled=False)
    for front, scene in enumerate(SCENES[:3]):
        scene = dataclasses.replace(scene, front_camera=front)
        for n in range(9):
            targets = draw_sample(scene, options, np.random.default_rng(n)).targets
            cameras, steps = targets.camera_index, np.round(targets.time, 1)  # cameras of a step are 10 ms apart
            keys = list(zip(steps, cameras != front, cameras, strict=True))
            assert keys == sorted(keys)
    orders = [
        tuple(np.diff(draw_sample(SCENES[0], OPTIONS, np.random.default_rng(n)).targets.time) >= 0) for n in range(9)
    ]
    assert not all(all(order) for order in orders) and options.for_evaluation().shuffled


def test_augmentation_options_leave_frames_and_metadata():
    rng = [np.random.default_rng(5) for _ in range(2)]
    plain = dataclasses.replace(OPTIONS.for_evaluation(), metadata_dropout=0.5)
    a, b = (draw_sample(SCENES[0], options, r) for options, r in zip((OPTIONS, plain), rng, strict=True))
    np.testing.assert_array_equal(a.targets.reference_from_camera, b.targets.reference_from_camera)
    np.testing.assert_array_equal(a.views.metadata.camera_id, b.views.metadata.camera_id)
    assert (a.views.images != b.views.images).any()


class Named:
    """A source that notes which records were asked for."""

    def __init__(self, scenes, log, name):
        self.scenes, self.log, self.name = scenes, log, name

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        self.log.append((self.name, index))
        return self.scenes[index]


def test_blank_images_show_nothing_and_leave_all_else():
    seen, blank = (draw_sample(SCENES[0], dataclasses.replace(OPTIONS, blank_images=blank), np.random.default_rng(0))
                   for blank in (False, True))  # fmt: skip
    assert set(np.unique(blank.views.images)) == {GREY} and len(np.unique(seen.views.images)) > 9
    assert_same(blank.replace(views=blank.views.replace(images=seen.views.images)), seen)
    assert dataclasses.replace(OPTIONS, blank_images=True).for_evaluation().blank_images


def test_sources_are_mixed_by_weight():
    log = []
    sources = [("a", Named(SCENES[:1], log, "a"), 3.0), ("b", Named(SCENES[1:], log, "b"), 1.0)]
    stream = make_stream(dataclasses.replace(OPTIONS, image_size=4), sources=sources)
    for n in range(600):
        stream[n]
    counts = collections.Counter(name for name, _ in log)
    assert abs(counts["a"] / 600 - 0.75) < 0.06
    records = collections.Counter(index for name, index in log if name == "b")
    assert set(records) == {0, 1, 2, 3} and min(records.values()) > 15
    again = []
    sources = [("a", Named(SCENES[:1], again, "a"), 3.0), ("b", Named(SCENES[1:], again, "b"), 1.0)]
    make_stream(dataclasses.replace(OPTIONS, image_size=4), sources=sources)[17]
    assert again == [log[17]]


def test_ordered_stream_reads_every_record_once_a_pass():
    log = []
    sources = [("a", Named(SCENES[:2], log, "a"), 1.0), ("b", Named(SCENES[2:], log, "b"), 1.0)]
    stream = make_stream(OPTIONS.for_evaluation(), sources=sources)
    first, second = stream[0], stream[stream.num_records]
    for n in range(1, 5):
        stream[n]
    assert log == [("a", 0), ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    # The second pass draws other frames of the same scene.
    assert first.views.images.tobytes() != second.views.images.tobytes()


def test_bad_record_is_replaced_and_named():
    good = make_stream()
    stream = make_stream(sources=[("worlds", [*SCENES[:4], corrupted(SCENES[4])], 1.0)])
    same = 0
    for n in range(60):
        sample = stream[n]
        same += sample.views.images.tobytes() == good[n].views.images.tobytes()
    # Other samples stay where they are.
    assert same == 60 - len([n for n in range(60) if first_record(good, n) == 4])
    assert set(stream.quarantine.counts) == {"worlds[4]"}
    assert stream.quarantine.bad_draws == stream.quarantine.draws - 60 > 0
    assert "scene scene_4, camera camera_" in stream.quarantine.reasons["worlds[4]"]
    replaced = next(n for n in range(60) if first_record(good, n) == 4)
    assert_same(stream[replaced], stream[replaced])


def first_record(stream, n):
    return stream._draw_record(n, np.random.default_rng([stream.seed, n, 0]))[1]


def test_too_many_bad_records_stop_the_run():
    options = dataclasses.replace(OPTIONS, image_size=4, max_bad_fraction=0.2, min_draws=20)
    stream = make_stream(options, sources=[("worlds", [SCENES[0], corrupted(SCENES[1])], 1.0)])
    worst = r"draws of worlds could not be used.*max_bad_fraction=0.2: worlds\[1\] \(scene scene_1"
    with pytest.raises(BadRecord, match=worst):
        for n in range(100):
            stream[n]
    assert stream.quarantine.draws >= 20
    tolerant = dataclasses.replace(options, max_bad_fraction=1.0)
    stream = make_stream(tolerant, sources=[("worlds", [corrupted(SCENES[1])], 1.0)])
    with pytest.raises(BadRecord, match="sample 3: none of 100 draws could be used"):
        stream[3]


def test_quarantine_counts_every_draw_of_all_threads():
    stream = make_stream(sources=[("worlds", [*SCENES, corrupted(SCENES[0])], 1.0)])
    stream.quarantine._max_bad_fraction = 1.0
    loader = make_loader(stream, global_batch=8, num_threads=4, num_batches=20)
    batches = list(loader)
    assert stream.quarantine.draws == 160 + stream.quarantine.bad_draws
    assert len(batches) == 20 and stream.quarantine.bad_draws > 0


class Broken:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError(f"record {index} went away")


@pytest.mark.parametrize("threads", [0, 2])
def test_worker_errors_surface(threads):
    loader = make_loader(make_stream(sources=[("gone", Broken(), 1.0)]), global_batch=2, num_threads=threads)
    with pytest.raises(OSError, match="went away"):
        next(loader)
    options = dataclasses.replace(OPTIONS, min_draws=5)
    loader = make_loader(make_stream(options, sources=[("bad", [corrupted(SCENES[0])], 1.0)]), 2, num_threads=threads)
    with pytest.raises(BadRecord, match="over the budget"):
        next(loader)


def test_options_name_every_problem():
    with pytest.raises(ValueError, match=r"crop_scale_range=\(0.5, 1.5\) must be at most 1; .*num_views=0.*grids="):
        PipelineOptions(num_views=0, crop_scale_range=(0.5, 1.5), grids=((0, 0),))
    with pytest.raises(ValueError, match=r"num_views=102 must be at least 1, at most frame_index_pool"):
        PipelineOptions(num_views=102)
    with pytest.raises(ValueError, match=r"a: weight 0.0 must be positive; b: no records"):
        make_stream(sources=[("a", SCENES, 0.0), ("b", [], 1.0)])
    with pytest.raises(ValueError, match="no sources"):
        SampleStream([], OPTIONS, 0)


def test_batches_state_the_lenses_that_occur_and_no_others():
    scene = make_scene(steps=4, cameras=2)
    fisheye = dataclasses.replace(scene.cameras[1], lens=Fisheye(scene.cameras[1].lens.intrinsics, np.full(4, 0.01)))
    mixed = dataclasses.replace(scene, cameras=(scene.cameras[0], fisheye))
    options = PipelineOptions(num_views=4, image_size=16, max_cameras=2, min_cameras=2, metadata_dropout=0.0)
    sample = draw_sample(mixed, options, np.random.default_rng(0))
    distortion = sample.targets.distortion
    assert distortion.kinds == (0, 2)
    np.testing.assert_array_equal(distortion.kind, np.where(sample.targets.camera_index == 1, 2, 0))
    np.testing.assert_allclose(distortion.coefficients[distortion.kind == 2, :4], 0.01)
    np.testing.assert_array_equal(sample.views.metadata.distortion.coefficients, distortion.coefficients)
    hidden = draw_sample(mixed, dataclasses.replace(options, metadata_dropout=1.0), np.random.default_rng(0))
    assert not hidden.views.metadata.distortion.coefficients.any() and hidden.targets.distortion.coefficients.any()
    assert draw_sample(scene, options, np.random.default_rng(0)).targets.distortion is None
    named = dataclasses.replace(options, lenses="pinhole,fisheye")
    assert draw_sample(scene, named, np.random.default_rng(0)).targets.distortion.kinds == (0, 2)
    with pytest.raises(
        BadRecord, match="scene scene_0: has lenses of the kind fisheye, sampling.lenses is pinhole; set"
    ):
        draw_sample(mixed, dataclasses.replace(options, lenses="pinhole"), np.random.default_rng(0))
    with pytest.raises(ValueError, match="lenses='wide' must be auto, or kinds of pinhole, brown, fisheye, unified"):
        PipelineOptions(lenses="wide")


class Telling(list):
    def __init__(self, scenes, kinds):
        super().__init__(scenes)
        self.lens_kinds = frozenset(kinds)


def test_a_stream_over_sources_of_several_lenses_has_one_kind_of_batch():
    scene = make_scene(steps=4, cameras=2)
    sources = [("a", Telling([scene], ["pinhole"]), 1.0), ("b", Telling([scene], ["brown"]), 1.0)]
    stream = SampleStream(sources, PipelineOptions(num_views=2, image_size=16), seed=0)
    assert stream.options.lenses == "brown,pinhole" and stream[0].targets.distortion.kinds == (0, 1)


def test_batches_of_several_lenses_whose_source_does_not_tell_them_say_what_to_set():
    scene = make_scene(steps=4, cameras=2)
    fisheye = Fisheye(scene.cameras[1].lens.intrinsics, np.full(4, 0.01))
    other = dataclasses.replace(scene, cameras=tuple(dataclasses.replace(c, lens=fisheye) for c in scene.cameras))
    options = PipelineOptions(num_views=2, image_size=16, ordered=True)
    words = "sampling.lenses='auto': scenes of one batch have lenses of the kinds fisheye, pinhole .*'fisheye,pinhole'"
    with pytest.raises(ValueError, match=words):
        next(make_loader(SampleStream([("a", [scene, other], 1.0)], options, seed=0), 2, num_threads=0))
    named = dataclasses.replace(options, lenses="fisheye,pinhole")
    batch = next(make_loader(SampleStream([("a", [scene, other], 1.0)], named, seed=0), 2, num_threads=0))
    np.testing.assert_array_equal(batch.targets.distortion.kind, [[0, 0], [2, 2]])
