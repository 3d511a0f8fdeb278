"""Protocols: the same lists of the same seed, files that cannot be changed unseen, data and submissions that fit."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.source import Source
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.protocol import (
    Protocol,
    ProtocolSample,
    Rules,
    read_protocol,
    told_cameras,
    write_protocol,
)
from rig3r_jax.evaluation.protocol_data import write_data
from rig3r_jax.evaluation.protocol_make import make_protocol
from rig3r_jax.evaluation.protocol_recipes import RECIPES
from rig3r_jax.evaluation.submission import check_submission
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.formats.tum import read_file_list
from rig3r_jax.inference.known_lenses import read_rig
from tests.data.rig_folders import make_folder

OPTIONS = {"test_worlds": 3, "steps": 4, "image_size": 16, "min_cameras": 3, "max_cameras": 3}
RULES = Rules(views=6, min_cameras=2, max_cameras=3, max_stride=1)


@pytest.fixture(scope="module")
def source():
    return make_source("procedural", "", OPTIONS)


@pytest.fixture(scope="module")
def protocol(source):
    return make_protocol("tiny", "procedural", source, "unseen_rigs", RULES, seed=3)


def test_samples_are_functions_of_seed_and_scene(source, protocol):
    assert [sample.name for sample in protocol.samples] == [f"unseen_rigs-00000{n}.0" for n in range(3)]
    assert all(len(set(sample.images)) == 6 for sample in protocol.samples)
    fewer = make_protocol("tiny", "procedural", source, "unseen_rigs", RULES, seed=3, scenes=2)
    assert fewer.samples == (protocol.samples[0], protocol.samples[2])
    other = make_protocol("tiny", "procedural", source, "unseen_rigs", RULES, seed=4, scenes=2)
    assert other.samples != fewer.samples and other.sha256 != fewer.sha256


def test_a_file_reads_back_and_a_changed_one_is_refused(protocol, tmp_path):
    path = tmp_path / "protocols/tiny.json"
    write_protocol(path, protocol)
    assert read_protocol(path) == dataclasses.replace(protocol, options=read_protocol(path).options)
    assert read_protocol(path).sha256 == protocol.sha256
    text = path.read_text()
    assert len(text.splitlines()) < 100  # a sample is a line
    path.write_text(text.replace('"views":6', '"views":5'))
    with pytest.raises(ValueError, match="tiny.json: was changed since it was made"):
        read_protocol(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="tiny.json: is no protocol"):
        read_protocol(path)


def test_the_hash_is_the_same_everywhere():
    """Of a protocol that is written out here: other Pythons, platforms and libraries must find this very number."""
    frames = (("front", 4, 0.0), ("à gauche", 10, -1.0e-4), ("front", 0, -12.3456))
    sample = ProtocolSample("drive/7", 1, 1532402927.647951, frames)
    fixed = Protocol("fixed", "folder", "val", {"window": 32, "cameras": ("front",)}, 3, Rules(), (sample,), {"x": "y"})
    assert fixed.sha256 == "ae9fe65efbd8dde9e30995b2ff9980436f2181155980a3bb149abfa241b429b9"
    assert sample.name == "drive_7.1" and sample.images == ("front/000004", "à gauche/000010", "front/000000")


def test_data_holds_images_truth_and_what_may_be_told(source, protocol, tmp_path):
    assert write_data(protocol, source, tmp_path) == 3
    for sample in protocol.samples:
        truth = read_cameras(tmp_path / "truth" / sample.name / "cameras.json")
        assert tuple(image.name.removesuffix(".jpg") for image in truth.images) == sample.images
        assert [image.time for image in truth.images] == pytest.approx([since for *_, since in sample.frames], abs=1e-4)
        for image in truth.images:
            content = (tmp_path / "images" / sample.name / image.name).read_bytes()
            assert decode_image(content).shape[:2] == (image.height, image.width)
        folder = tmp_path / "told" / sample.name
        times = read_file_list(folder / "times.txt")
        assert dict(zip(times.files, times.times, strict=True)) == {one.name: one.time for one in truth.images}
        rig, partly = read_cameras(folder / "rig.json"), read_cameras(folder / "partly_known_rig.json")
        for image in (*rig.images, *partly.images):  # where the rig was is not told
            np.testing.assert_array_equal(image.world_from_camera, rig.camera_of(image).rig_from_camera)
            assert image.time is None and image.name.endswith("/rig")
        assert sorted(camera.name for camera in rig.cameras) == list(sample.cameras)
        assert sorted(camera.name for camera in partly.cameras) == list(sample.cameras[::2])
        calibration = read_rig(folder / "partly_known_rig.json")  # as `reconstruct --rig` takes it
        assert [(camera.name, camera.size) for camera in calibration.cameras] == [
            (camera.name, (16, 16)) for camera in partly.cameras
        ]
    assert told_cameras(("c", "a", "b")) == ("a", "c")


def test_other_data_is_refused(protocol, tmp_path):
    other = make_source("procedural", "", OPTIONS | {"steps": 2})
    with pytest.raises(ValueError, match="another version of this data"):
        write_data(protocol, other, tmp_path)
    with pytest.raises(ValueError, match="has no scene unseen_rigs-000000 in unseen_rigs"):
        write_data(protocol, make_source("procedural", "", OPTIONS | {"test_worlds": 0}), tmp_path)


def test_scenes_that_are_too_small_are_left_out_and_counted(source):
    with pytest.raises(ValueError, match="none of its 3 scenes has a sample"):
        make_protocol("big", "procedural", source, "unseen_rigs", Rules(views=24))


def test_of_drives_whose_names_begin_alike_the_longer_one_tells_the_rig(source):
    class TwoDrives(Source):
        def splits(self):
            return "train", "val"

        def scenes(self, split):
            loaders = [load for _, load in source.scenes("unseen_rigs")]
            return list(zip(("drive_1_00000", "drive_1_2_00000"), loaders[:2], strict=True))

        def rigs(self, split):
            return {"drive_1": "new", "drive_1_2": "old"} if split == "val" else {"drive_3": "old"}

    rules = dataclasses.replace(RULES, unseen_in="train")
    protocol = make_protocol("two", "made", TwoDrives(), "val", rules)
    assert [sample.scene for sample in protocol.samples] == ["drive_1_00000"]
    assert protocol.left_out == {"drive_1_2_00000": "scene drive_1_2_00000: its rig old is one of the 1 of train"}


def test_lists_of_the_repository_are_those_of_their_recipes(repo):
    files = sorted((repo / "protocols").glob("*.json"))
    assert files
    for file in files:
        protocol, recipe = read_protocol(file), RECIPES[file.stem]
        assert protocol.name == file.stem and all(len(set(one.images)) == 24 for one in protocol.samples)
        assert file.stat().st_size < 600 * len(protocol.samples) and not protocol.left_out
        assert (protocol.source, protocol.split, protocol.rules) == (recipe.source, recipe.split, recipe.rules)
        source = make_source(recipe.source, "", recipe.options)
        assert make_source(protocol.source, "", protocol.options) == source
    again = make_protocol(protocol.name, protocol.source, source, protocol.split, protocol.rules, scenes=1)
    assert again.samples == protocol.samples[:1]  # one is rendered and drawn again


def test_real_nuscenes(shared, tmp_path):
    source = make_source("nuscenes", str(shared / "realdata/nuscenes_sample"))
    protocol = make_protocol("nus", "nuscenes", source, "test", Rules(views=6, min_cameras=6))
    assert len(protocol.samples) == 1 and len({camera for camera, _, _ in protocol.samples[0].frames}) == 6
    write_data(protocol, source, tmp_path)
    (images,) = (tmp_path / "images").iterdir()
    assert len(list(images.glob("CAM_*/*.jpg"))) == 6


def test_a_folder_of_your_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "my_rig")
    words = ["window=8", "longest_gap=0.3", "--root", "my_rig", "--split", "train"]
    draws = ["--views", "4", "--min-cameras", "2", "--max-stride", "1"]
    assert cli.main(["make-protocol", "folder", *words, *draws, "--out", "mine.json"]) == 0
    assert cli.main(["protocol-data", "mine.json", "--root", "my_rig", "--out", "data"]) == 0
    assert cli.main(["validate", "data/truth", "--protocol", "mine.json"]) == 0
    assert "mine: answers the protocol: 1 of 1 samples, 4 of 4 images have a pose" in capsys.readouterr().out


def test_an_answer_is_checked_and_scored(tmp_path, capsys, monkeypatch):
    """The commands of docs/protocols.md in their order, and every fault of an answer."""
    monkeypatch.chdir(tmp_path)
    words = [f"{key}={value}" for key, value in OPTIONS.items()]
    draws = ["--views", "6", "--max-cameras", "3", "--min-cameras", "2", "--max-stride", "1"]
    made = ["make-protocol", "procedural_unseen_rigs", *words, *draws, "--out", "tiny.json"]
    assert cli.main(made) == 0
    printed = capsys.readouterr().out
    assert "unseen_rigs has 32 scenes (test_worlds=32), 3 are here" in printed
    assert "tiny.json: 3 samples of 6 images; sha256" in printed
    assert cli.main(["protocol-data", "tiny.json", "--out", "data"]) == 0
    shutil.copytree("data/truth", "answer")
    validate = ["validate", "answer", "--protocol", "tiny.json"]
    scored = ["evaluate", "--predictions", "answer", "--truth", "data/truth", "--protocol", "tiny.json"]
    assert cli.main(validate) == 0
    capsys.readouterr()
    assert cli.main([*scored, "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    scores = printed["systems"][0]["scores"]
    assert scores["mAA30"]["value"] == 100 and scores["pairs"]["value"] == 3 * 15
    assert printed["protocol"] == f"tiny, sha256 {read_protocol(tmp_path / 'tiny.json').sha256}"
    assert cli.main([*scored, "--align", "none"]) == 2
    assert "tiny.json says --align itself" in capsys.readouterr().err

    first, second, third = (sample.name for sample in read_protocol(tmp_path / "tiny.json").samples)
    path = tmp_path / "answer" / second / "cameras.json"
    truth = read_cameras(path)
    write_cameras(path, dataclasses.replace(truth, images=truth.images[:4]))
    assert cli.main(validate) == 0  # an image without a pose is a failure, no fault
    printed = capsys.readouterr().out
    assert "3 of 3 samples, 16 of 18 images have a pose; the pairs of 2 images without one count as failures" in printed
    others = [dataclasses.replace(truth.images[n], name=f"elsewhere/{n}.jpg") for n in (0, 1)]
    write_cameras(path, dataclasses.replace(truth, images=(*others, *truth.images[2:])))
    shutil.copytree("answer/" + third, "answer/more")
    shutil.rmtree("answer/" + first)
    (tmp_path / "answer" / third / "cameras.json").write_text("{")
    assert cli.main(validate) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "answer/more: is no sample of tiny; remove it"
    assert lines[1] == f"answer: lacks the sample {first}"
    assert lines[2:4] == [f"answer/{second}: elsewhere/{n}.jpg is no image of the sample {second}" for n in (0, 1)]
    assert third in lines[4] and "is not JSON" in lines[4]
    assert lines[5] == "answer: tiny: 5 faults: 0 of 3 samples, 4 of 18 images have a pose"
    assert cli.main(scored) == 2
    assert f"answer: lacks the sample {first}" in capsys.readouterr().err

    # Nor is a truth scored against that is not of the protocol's lists.
    path = tmp_path / "data/truth" / second / "cameras.json"
    write_cameras(path, dataclasses.replace(truth, images=truth.images[:4]))
    shutil.move("data/truth/" + first, "data/truth/other")
    assert cli.main(scored) == 2
    said = capsys.readouterr().err
    assert "data/truth/other: is no sample of tiny" in said and f"data/truth: lacks the sample {first}" in said
    assert f"data/truth/{second}: has 4 of 6 images of {second}" in said


def test_poses_that_are_none_are_faults(protocol, tmp_path):
    """Arrays of demo scripts hold what they like; images that they leave out have no pose."""

    def submit(poses):
        for sample in protocol.samples:
            (tmp_path / sample.name).mkdir(exist_ok=True)
            names = np.array(sample.images[: len(poses)])
            np.savez(tmp_path / sample.name / "out.npz", world_from_camera=poses, names=names)
        return check_submission(protocol, tmp_path)

    poses = np.tile(np.eye(4), (6, 1, 1))
    for number, message in ((-1, "is no rotation, with determinant -1"), (np.nan, "it must be a finite 4x4 matrix")):
        poses[0, 0, 0] = number
        submission = submit(poses)
        assert len(submission.faults) == 3 and message in submission.faults[0]
        assert (submission.samples, submission.posed, submission.images) == (0, 0, 18)
    submission = submit(poses[1:])
    assert submission.faults == () and (submission.samples, submission.posed, submission.images) == (3, 15, 18)


@pytest.mark.parametrize(
    "words, message",
    [
        (["nuscense", "--split", "val"], "'nuscense' is no recipe and no source; recipes: nuscenes_val, "),
        (["procedural"], "--split is missing: of the data set, such as val"),
        (["nuscenes_val"], "--root is missing: the folder that holds nuScenes"),
        (["procedural_same_rigs", "--scenes", "0"], "--scenes is 0; it must be at least 1"),
        (["procedural_same_rigs", "--min-seconds", "1"], "min_seconds is 1 and max_seconds 0: nothing lies between"),
        (["procedural_same_rigs", "--max-cameras", "2"], "min_cameras is 3 and max_cameras 2: nothing lies between"),
        (["procedural_same_rigs", "--max-stride", "1", "--max-seconds", "2"], "--max-stride counts nothing beside 2 "),
        (["procedural_same_rigs", "--unseen-in", "train"], "does not tell the rigs of same_rigs and train apart"),
    ],
)
def test_what_cannot_be_made_is_explained(words, message, tmp_path, capsys):
    assert cli.main(["make-protocol", *words, "--out", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
