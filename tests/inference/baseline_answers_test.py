"""Baselines: answers that any system could write, blind to the truth's poses, each told what it says and no more."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from rig3r_jax import cli
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.protocol import Rules
from rig3r_jax.evaluation.protocol_data import write_data
from rig3r_jax.evaluation.protocol_make import make_protocol
from rig3r_jax.evaluation.sample_data import read_samples
from rig3r_jax.evaluation.submission import check_submission
from rig3r_jax.exports.export import export_file
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.formats.colmap import read_model
from rig3r_jax.geometry import rigid
from rig3r_jax.inference.baselines import structure
from rig3r_jax.inference.baselines.answer import answer
from rig3r_jax.inference.baselines.names import BASELINES, BaselineOptions
from rig3r_jax.inference.baselines.network import other_rows
from rig3r_jax.inference.models.open import open_model
from tests.exports.reconstructions import rig_of_three

OPTIONS = {"test_worlds": 2, "steps": 4, "image_size": 32, "min_cameras": 2, "max_cameras": 3}
NETWORK = [name for name, baseline in BASELINES.items() if "model" in baseline.takes]
MOTION = ["identity", "forward", "closed-form"]


@pytest.fixture(scope="module")
def protocol():
    rules = Rules(views=6, min_cameras=2, max_cameras=3, max_stride=1)
    return make_protocol("tiny", "procedural", make_source("procedural", "", OPTIONS), "unseen_rigs", rules, seed=3)


@pytest.fixture(scope="module")
def data(protocol, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(protocol, make_source("procedural", "", OPTIONS), folder)
    return folder


@pytest.fixture(scope="module")
def model(rig3r_run):
    return open_model(rig3r_run)


class Recorder:
    """A model that keeps what it was given."""

    def __init__(self, model):
        self.model, self.views, self.lenses = model, [], []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def estimate(self, views, lenses, wide):
        self.views.append(views)
        self.lenses.append(lenses)
        return self.model.estimate(views, lenses, wide)


def answers(name, data, out, model=None, **options):
    """What a baseline writes, by sample."""
    taken = model if "model" in BASELINES[name].takes else None
    answer(BASELINES[name], data, out, BaselineOptions(**options), taken)
    return {path.name: read_cameras(path / "cameras.json") for path in sorted(out.iterdir())}


def with_truth(data, folder, change):
    """A copy of the data whose truths are changed."""
    shutil.copytree(data, folder)
    for path in folder.glob("truth/*/cameras.json"):
        write_cameras(path, change(read_cameras(path)))
    return folder


def posed(truth, pose):
    """The truth with the pose of each image that `pose` makes of it."""
    images = [dataclasses.replace(image, world_from_camera=pose(image)) for image in truth.images]
    return dataclasses.replace(truth, images=tuple(images))


def with_pixels(data, folder, pixels):
    """A copy of the data whose images are others."""
    shutil.copytree(data, folder)
    for path in folder.glob("images/*/*/*.jpg"):
        with Image.open(path) as image:
            Image.fromarray(pixels(np.asarray(image))).save(path, quality=95)
    return folder


@pytest.mark.parametrize("name", [*MOTION, *NETWORK])
def test_answers_fit_the_protocol_and_never_look_at_true_poses(name, protocol, data, model, tmp_path):
    rng = np.random.default_rng(0)

    def elsewhere(_):
        turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
        return rigid.from_rotation_translation(turn, rng.normal(size=3))

    other = with_truth(data, tmp_path / "other", lambda truth: posed(truth, elsewhere))
    first = answers(name, data, tmp_path / "a", model)
    second = answers(name, other, tmp_path / "b", model)
    assert not check_submission(protocol, tmp_path / "a").faults and len(first) == 2
    for sample in first:
        np.testing.assert_array_equal(first[sample].world_from_camera, second[sample].world_from_camera)
        assert len(first[sample].images) == 6


def test_the_closed_form_is_the_truth_of_a_rig_that_moves_straight(data, tmp_path):
    world = rigid.from_rotation_translation(Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix(), np.array([3.0, 1, 2]))

    def driven(truth):
        def pose(image):
            ahead = np.eye(4)
            ahead[2, 3] = 4.0 * image.time
            return world @ ahead @ truth.camera_of(image).rig_from_camera

        return posed(truth, pose)

    straight = with_truth(data, tmp_path / "straight", driven)
    for sample, result in answers("closed-form", straight, tmp_path / "out", speed=4.0).items():
        true = read_cameras(straight / "truth" / sample / "cameras.json").world_from_camera
        relative = rigid.invert(true[0]) @ true
        np.testing.assert_allclose(
            rigid.invert(result.world_from_camera[0]) @ result.world_from_camera, relative, atol=1e-9
        )
        assert result.length_unit == "metre" and result.cameras


def test_blank_images_are_blind_and_others_are_not(data, model, tmp_path):
    noise = with_pixels(
        data, tmp_path / "noise", lambda image: np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    )
    for name, same in (("blank", True), ("model", False)):
        pairs = [answers(name, folder, tmp_path / f"{name}-{folder.name}", model) for folder in (data, noise)]
        for sample in pairs[0]:
            assert np.array_equal(*(pair[sample].world_from_camera for pair in pairs)) == same


def test_what_the_network_is_told(data, model, tmp_path):
    recorders = {name: Recorder(model) for name in NETWORK}
    for name, recorder in recorders.items():
        answers(name, data, tmp_path / name, recorder, seed=5)
    samples = read_samples(data)
    for number, sample in enumerate(samples):
        true, blank, shuffled, wrong = (
            recorders[name].views[number] for name in ("model", "blank", "shuffled", "wrong-rig")
        )
        assert np.all(blank.images == 128) and not np.array_equal(true.images, blank.images)
        np.testing.assert_array_equal(shuffled.images, true.images)
        rows = other_rows(6, sample.name, 5)
        times = true.metadata.time[rows]
        np.testing.assert_allclose(shuffled.metadata.time, times - times[0], atol=1e-6)
        np.testing.assert_array_equal(shuffled.metadata.rig_from_camera, true.metadata.rig_from_camera[rows])
        np.testing.assert_array_equal(shuffled.metadata.intrinsics, true.metadata.intrinsics[rows])
        np.testing.assert_array_equal(wrong.metadata.time, true.metadata.time)
        np.testing.assert_array_equal(wrong.metadata.camera_id, true.metadata.camera_id)
        others = {camera.name: camera for camera in samples[1 - number].cameras}
        relative = rigid.invert(wrong.metadata.rig_from_camera[0].astype(float)) @ wrong.metadata.rig_from_camera
        places = [camera.rig_from_camera for camera in others.values()]
        possible = [rigid.invert(a) @ b for a in places for b in places]
        assert all(any(np.allclose(place, one, atol=1e-5) for one in possible) for place in relative)
        assert not np.allclose(wrong.metadata.rig_from_camera, true.metadata.rig_from_camera, atol=1e-3)


def test_a_setting_hides_the_rest_from_the_network_and_from_the_answer(data, model, tmp_path):
    recorder = Recorder(model)
    for result in answers("model", data, tmp_path / "none", recorder, setting="none").values():
        assert result.cameras == () and result.length_unit == "scene"
        assert all(image.lens_source == "predicted" for image in result.images)
    for views, lenses in zip(recorder.views, recorder.lenses, strict=True):
        metadata = views.metadata
        assert not (metadata.has_camera_id | metadata.has_time | metadata.has_rig).any() and set(lenses) == {None}
    for result in answers("model", data, tmp_path / "camera", model, setting="camera").values():
        assert result.cameras and all(camera.rig_from_camera is None for camera in result.cameras)


def test_shuffling_leaves_no_image_its_own():
    for count in (2, 3, 24):
        rows = other_rows(count, "name", 0)
        place, visited = 0, set()
        while place not in visited:
            visited.add(place)
            place = int(rows[place])
        assert len(visited) == count  # one cycle through all
    assert not np.array_equal(other_rows(24, "name", 0), other_rows(24, "name", 1))


@pytest.mark.parametrize("name", ["closed-form", "model", "wrong-rig"])
def test_a_camera_without_a_place_in_the_rig_is_named(name, data, model, tmp_path):
    def unplaced(truth):
        last = dataclasses.replace(truth.cameras[-1], rig_from_camera=None)
        return dataclasses.replace(truth, cameras=(*truth.cameras[:-1], last))

    bare = with_truth(data, tmp_path / "bare", unplaced)
    sample = read_samples(bare)[0]
    with pytest.raises(ValueError, match=rf"^{sample.name}: .*its camera {sample.truth.cameras[-1].name} has no place"):
        answers(name, bare, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_colmap_answers_with_the_first_image_alone_where_nothing_registers(data, tmp_path):
    pytest.importorskip("pycolmap")
    grey = with_pixels(data, tmp_path / "grey", lambda image: np.full_like(image, 90))
    shutil.rmtree(sorted((grey / "truth").iterdir())[1])
    lines = []
    answered = answer(BASELINES["colmap"], grey, tmp_path / "out", BaselineOptions(), tell=lines.append)
    assert answered.summary == "1 samples, 1 of 6 images with a pose" and lines[0].endswith("1 of 6 images with a pose")
    (result,) = (read_cameras(path / "cameras.json") for path in (tmp_path / "out").iterdir())
    np.testing.assert_array_equal(result.world_from_camera, np.eye(4)[None])


def test_a_model_of_colmap_becomes_an_answer(tmp_path):
    pytest.importorskip("pycolmap")
    truth = dataclasses.replace(rig_of_three("pinhole"), points=None)
    kept = dataclasses.replace(truth, images=truth.images[:1] + truth.images[4:])
    export_file(kept, "colmap", tmp_path / "colmap")
    sample = sample_of(truth, tmp_path)
    result = structure._of_sample(read_model(next(tmp_path.glob("colmap/**/images.*")).parent).reconstruction, sample)
    assert [image.name for image in result.images] == [image.name for image in kept.images]
    assert {camera.name for camera in result.cameras} == {"front", "left", "right"}
    relative = [rigid.invert(one.world_from_camera[0]) @ one.world_from_camera for one in (result, kept)]
    np.testing.assert_allclose(*relative, atol=1e-6)
    write_cameras(tmp_path / "cameras.json", result)


def sample_of(truth, folder):
    """A sample of this truth with black images."""
    for image in truth.images:
        path = folder / "data/images/one" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.new("RGB", (image.width, image.height)).save(buffer, "JPEG")
        path.write_bytes(buffer.getvalue())
    (folder / "data/truth/one").mkdir(parents=True)
    write_cameras(folder / "data/truth/one/cameras.json", truth)
    (sample,) = read_samples(folder / "data")
    return sample


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zero", "DATA"], "baseline 'zero' is unknown; choose from identity, forward"),
        (["identity", "DATA", "--model", "run"], "identity takes no --model"),
        (["forward", "DATA", "--seed", "1"], "forward takes no --seed"),
        (["blank", "DATA"], "blank needs --model: a run's workdir"),
        (
            ["identity", "nowhere"],
            "nowhere: holds no truth/SAMPLE/cameras.json; give a folder that rig3r protocol-data",
        ),
        (["blank", "DATA", "--model", "RUN", "--setting", "smell"], "settings ['smell'] are unknown"),
        (
            ["wrong-rig", "DATA", "--model", "RUN", "--setting", "time"],
            "setting 'time' tells no rig that could be wrong",
        ),
    ],
)
def test_mistakes_are_answered_in_a_line_and_write_nothing(words, message, data, rig3r_run, tmp_path, capsys):
    places = {"DATA": str(data), "RUN": str(rig3r_run)}
    out = tmp_path / "out"
    assert cli.main(["baseline", *(places.get(word, word) for word in words), f"--out={out}"]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_the_command_says_how_many_images_have_a_pose(data, tmp_path, capsys):
    assert cli.main(["baseline", "identity", str(data), f"--out={tmp_path / 'out'}"]) == 0
    assert "identity: 2 samples, 12 of 12 images with a pose" in capsys.readouterr().out
    assert cli.main(["evaluate", "--predictions", str(tmp_path / "out"), "--truth", str(data / "truth")]) == 0
    assert cli.main(["baseline", "identity", str(data), f"--out={tmp_path / 'out'}"]) == 2
    assert "exists already" in capsys.readouterr().err
