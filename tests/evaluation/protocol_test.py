"""Protocols: the same lists of the same seed, files that cannot be changed unseen, data and submissions that fit."""

import dataclasses
import json
import shutil

import pytest

from rig3r_jax import cli
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.protocol import Rules, problems_of, read_protocol, write_protocol
from rig3r_jax.evaluation.protocol_data import make_protocol, write_data
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from tests.data.nuscenes_drive import write_nuscenes

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
    path.write_text(text.replace('"views": 6', '"views": 5'))
    with pytest.raises(ValueError, match="tiny.json: was changed since it was made"):
        read_protocol(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="tiny.json: is no protocol"):
        read_protocol(path)


def test_data_and_submissions(source, protocol, tmp_path):
    assert write_data(protocol, source, tmp_path) == 3
    sample = protocol.samples[1]
    truth = read_cameras(tmp_path / "truth" / sample.name / "cameras.json")
    assert tuple(image.name.removesuffix(".jpg") for image in truth.images) == sample.images
    assert truth.images[0].time == 0 and (tmp_path / "images" / sample.name / truth.images[3].name).is_file()
    answer = tmp_path / "answer"
    shutil.copytree(tmp_path / "truth", answer)
    assert problems_of(protocol, answer) == []
    fewer = dataclasses.replace(truth, images=truth.images[:4])
    write_cameras(answer / sample.name / "cameras.json", fewer)
    assert problems_of(protocol, answer) == []  # failures, no fault of form
    renamed = dataclasses.replace(truth.images[0], name="elsewhere/1.jpg")
    write_cameras(
        answer / sample.name / "cameras.json", dataclasses.replace(truth, images=(renamed, *truth.images[1:]))
    )
    shutil.rmtree(answer / protocol.samples[0].name)
    shutil.copytree(answer / protocol.samples[2].name, answer / "more")
    lines = problems_of(protocol, answer)
    assert [line.partition(": ")[2] for line in lines] == [
        "lacks 1 of 3 samples, such as unseen_rigs-000000.0",
        "1 scenes are no samples of tiny, such as more",
        "1 images are none of the sample unseen_rigs-000001.0, such as elsewhere/1.jpg",
    ]


def test_other_data_is_refused(protocol, tmp_path):
    other = make_source("procedural", "", OPTIONS | {"steps": 2})
    with pytest.raises(ValueError, match="another version of this data"):
        write_data(protocol, other, tmp_path)
    with pytest.raises(ValueError, match="has no scene unseen_rigs-000000 in unseen_rigs"):
        write_data(protocol, make_source("procedural", "", OPTIONS | {"test_worlds": 0}), tmp_path)


def test_scenes_that_are_too_small_are_left_out_and_counted(source):
    with pytest.raises(ValueError, match="none of its 3 scenes has a sample"):
        make_protocol("big", "procedural", source, "unseen_rigs", Rules(views=24))


def test_lists_of_the_repository_are_whole(repo):
    files = sorted((repo / "protocols").glob("*.json"))
    assert files
    for file in files:
        protocol = read_protocol(file)
        assert protocol.name == file.stem and all(len(set(one.images)) == 24 for one in protocol.samples)


def test_nuscenes_by_its_own_index(tmp_path):
    write_nuscenes(tmp_path, keys=4)
    source = make_source("nuscenes", str(tmp_path))
    protocol = make_protocol(
        "nus", "nuscenes", source, source.splits()[0], Rules(views=6, min_cameras=3, max_cameras=3)
    )
    cameras = {camera for camera, _, _ in protocol.samples[0].frames}
    assert cameras == {"CAM_FRONT", "CAM_FRONT_LEFT", "CAM_BACK"}
    assert write_data(protocol, source, tmp_path / "out") == len(protocol.samples)


def test_real_nuscenes(shared, tmp_path):
    source = make_source("nuscenes", str(shared / "realdata/nuscenes_sample"))
    protocol = make_protocol("nus", "nuscenes", source, "test", Rules(views=6, min_cameras=6))
    assert len(protocol.samples) == 1 and len({camera for camera, _, _ in protocol.samples[0].frames}) == 6
    write_data(protocol, source, tmp_path)
    (images,) = (tmp_path / "images").iterdir()
    assert len(list(images.glob("CAM_*/*.jpg"))) == 6


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"{key}={value}" for key, value in OPTIONS.items()]
    draws = ["--views", "6", "--max-cameras", "3", "--min-cameras", "2", "--max-stride", "1", "--scenes", "2"]
    made = ["make-protocol", "procedural", *words, "--split", "unseen_rigs", *draws, "--out", "tiny.json"]
    assert cli.main(made) == 0
    assert "tiny.json: 2 samples of 6 images; sha256" in capsys.readouterr().out
    assert cli.main(["protocol-data", "tiny.json", "--out", "data"]) == 0
    scored = ["evaluate", "--predictions", "data/truth", "--truth", "data/truth", "--protocol", "tiny.json"]
    assert cli.main([*scored, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out.partition("cameras.json\n")[2])
    assert content["systems"][0]["scores"]["mAA30"]["value"] == 100
    assert cli.main([*scored, "--align", "none"]) == 2
    assert "tiny.json says --align itself" in capsys.readouterr().err
    shutil.copytree("data/truth", "part")
    shutil.rmtree("part/unseen_rigs-000000.0")
    assert cli.main(["evaluate", "--predictions", "part", *scored[3:]]) == 2
    assert "part: lacks 1 of 2 samples, such as unseen_rigs-000000.0" in capsys.readouterr().err
    assert cli.main([*made[:-4], "--scenes", "0", "--out", "x.json"]) == 2
    assert "--scenes is 0; it must be at least 1" in capsys.readouterr().err
