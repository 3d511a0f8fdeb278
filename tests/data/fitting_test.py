"""Scenes that no sample can be drawn from are known and counted before the first draw; the others never fail."""

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.configs import full
from rig3r_jax.data import pipeline
from rig3r_jax.data.build import build_records
from rig3r_jax.data.fitting import FittingScenes
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.pipeline import SampleStream
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.sources import make_source
from tests.data.scenes import make_scene

LENGTHS = (50, 100)  # samples of DDAD's drives, of which it has 47 and 103 for training
CAMERAS = 6
SIZE = (6, 8)  # pixels, height and width
IMAGE = {"filename": "image.png", "height": SIZE[0], "width": SIZE[1]}
FULL = PipelineOptions(**full.get_config().sampling.to_dict() | {"image_size": 16})


def transform(rotation=(0, 0, 0, 1), translation=(0, 0, 0)):
    names = ("qx", "qy", "qz", "qw")
    return {
        "rotation": dict(zip(names, map(float, rotation), strict=True)),
        "translation": dict(zip("xyz", map(float, translation), strict=True)),
    }


def write_drive(folder, steps):
    """A drive in the DGP format whose images, and sweeps, are all the same file."""
    (folder / "calibration").mkdir(parents=True)
    cameras = [f"CAMERA_{number + 1:02d}" for number in range(CAMERAS)]
    turns = [Rotation.from_euler("y", 60 * number, degrees=True).as_quat() for number in range(CAMERAS)]
    assert cv2.imwrite(str(folder / "image.png"), np.full((*SIZE, 3), 7, np.uint8))
    np.savez(folder / "sweep.npz", data=np.float32([[0, 0, 9, 0], [9, 0, 0, 0], [-9, 0, 0, 0], [0, 0, -9, 0]]))
    pinhole = {"fx": 6.0, "fy": 6.0, "cx": 3.5, "cy": 2.5}
    calibration = {
        "names": [*cameras, "LIDAR"],
        "intrinsics": [pinhole] * CAMERAS + [dict.fromkeys(pinhole, 0)],
        "extrinsics": [transform(turn) for turn in turns] + [transform()],
    }
    (folder / "calibration/0.json").write_text(json.dumps(calibration))
    data, samples = [], []
    for step in range(steps):
        time = f"2019-04-30T21:{step // 60:02d}:{step % 60:02d}.000000Z"
        keys = [f"{step}-{sensor}" for sensor in (*cameras, "LIDAR")]
        datums = [{"image": {**IMAGE, "pose": transform(turn, (step, 0, 0))}} for turn in turns] + [
            {"point_cloud": {"filename": "sweep.npz", "pose": transform(translation=(step, 0, 0))}}
        ]
        for key, datum in zip(keys, datums, strict=True):
            data.append({"key": key, "id": {"name": key.split("-")[1], "timestamp": time}, "datum": datum})
        samples.append({"datum_keys": keys, "calibration_key": "0"})
    (folder / "scene_a.json").write_text(json.dumps({"data": data, "samples": samples}))


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Records of one drive of each length, as `configs/full.py` builds them."""
    root = tmp_path_factory.mktemp("ddad")
    for steps in LENGTHS:
        write_drive(root / f"{steps:06d}", steps)
    files = {"filenames": [f"{steps:06d}/scene_a.json" for steps in LENGTHS]}
    (root / "ddad.json").write_text(json.dumps({"scene_splits": {"0": files}}))
    options = full.get_config().data.mixture[0].options.to_dict()
    report = build_records("ddad", make_source("ddad", str(root), options), root / "records", progress=False)
    assert report.frames == sum(LENGTHS) * CAMERAS and not report.left_out and not report.skipped
    source = RecordSource(report.path, "train")
    return [source[number] for number in range(len(source))]


def test_every_window_of_a_drive_fills_the_samples_of_the_full_run(drives):
    steps = [len({frame.step for frame in scene.frames}) for scene in drives]
    assert steps == [12, 13, 12, 13, 14, 14, 14, 15, 14, 14, 15]
    fitting = FittingScenes(drives, FULL)
    assert len(fitting) == len(drives) and str(fitting) == "all 11 scenes fill 24 views"


@pytest.fixture(scope="module")
def sample(drives):
    """A sample of the full run, of small images."""
    return SampleStream([("ddad", FittingScenes(drives, FULL), 1.0)], FULL, 0)[0]


def test_sample_of_the_full_run_is_made(sample):
    assert sample.views.images.shape == (24, 16, 16, 3) and sample.targets.valid.any()


@pytest.mark.parametrize("order", range(6))
def test_full_run_draws_from_drives_in_any_order(drives, sample, monkeypatch, order):
    drawn = []
    monkeypatch.setattr(pipeline, "make_sample", lambda scene, chosen, *_: drawn.append(chosen) or sample)
    scenes = drives[:4] * 47 + drives[4:] * 103
    scenes = FittingScenes([scenes[i] for i in np.random.default_rng(order).permutation(len(scenes))[:100]], FULL)
    for options in (FULL, FULL.for_evaluation()):
        stream = SampleStream([("ddad", scenes, 1.0)], options, order)
        for number in range(100):
            assert stream[number] is sample and len(set(drawn.pop())) == 24
        assert stream.quarantine.draws == 100 and not stream.quarantine.bad_draws


def test_scenes_that_are_too_small_are_left_out_and_counted():
    scenes = [make_scene(number, steps=steps, cameras=2, size=(8, 8)) for number, steps in enumerate((4, 1, 5, 2, 1))]
    fitting = FittingScenes(scenes, PipelineOptions(num_views=6, max_cameras=2, image_size=16))
    assert [fitting[number].name for number in range(len(fitting))] == ["scene_0", "scene_2"]
    assert str(fitting) == (
        "3 of 5 scenes cannot fill 6 views and are left out: 2 of 1 steps x 2 cameras, 1 of 2 steps x 2 cameras, "
        "such as scene_1"
    )


def test_no_more_scenes_than_asked_for_are_taken_the_first_that_fit():
    scenes = [make_scene(number, steps=steps, cameras=2, size=(8, 8)) for number, steps in enumerate((4, 1, 5, 6))]
    options = PipelineOptions(num_views=6, max_cameras=2, image_size=16)
    for most, names in ((1, [0]), (2, [0, 2]), (3, [0, 2, 3]), (9, [0, 2, 3]), (0, [0, 2, 3])):
        fitting = FittingScenes(scenes, options, most)
        assert [scene.name for scene in map(fitting.__getitem__, range(len(fitting)))] == [f"scene_{n}" for n in names]
