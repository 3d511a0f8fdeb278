"""Rigs and lenses that a user knows: right by format, of the right images, and refused where they cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole
from rig3r_jax.inference.exif import exif_lenses
from rig3r_jax.inference.known_lenses import check_size, read_lenses, read_rig, rig_notes
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

FRONT = Pinhole(np.array([[95.0, 0, 58.0], [0, 96.0, 47.0], [0, 0, 1]]))
LEFT = Brown(np.array([[80.0, 0, 41.0], [0, 80.0, 58.0], [0, 0, 1]]), np.array([-0.2, 0.05, 0.001, -0.001, 0.0]))
BACK = Fisheye(np.array([[40.0, 0, 50.0], [0, 40.0, 50.0], [0, 0, 1]]), np.array([0.02, -0.01, 0.0, 0.0]))
PLACE = np.array([[0, 0, 1.0, 0.5], [0, 1, 0, 0], [-1, 0, 0, -0.25], [0, 0, 0, 1]])


@pytest.fixture
def photographs(tmp_path):
    names = [f"{camera}/{step}.png" for step in (0, 1) for camera in ("front", "left", "back")]
    return [Photograph(tmp_path / name, name, name.partition("/")[0], int(name[-5])) for name in names]


def check(lenses, photographs, expected):
    assert {name: camera.lens for name, camera in lenses.items()} == {
        one.name: expected[one.camera] for one in photographs if one.camera in expected
    }


def test_lenses_of_a_table_are_by_image_by_folder_and_of_all(tmp_path, photographs):
    rows = [
        "name,model,width,height,params",
        "*, OPENCV, 80, 120, 80, 80, 41, 58, -0.2, 0.05, 0.001, -0.001",
        "front, pinhole, 120, 90, 95, 96, 58, 47",
        "back/1.png, SIMPLE_PINHOLE, 100, 100, 33, 50, 50",
    ]
    (tmp_path / "lenses.csv").write_text("\n".join(rows))
    lenses, notes = read_lenses(tmp_path / "lenses.csv", photographs)
    assert lenses["front/0.png"].lens == FRONT and lenses["front/0.png"].size == (90, 120)
    assert lenses["left/0.png"].lens == lenses["back/0.png"].lens == LEFT
    assert lenses["back/1.png"].lens.intrinsics[0, 0] == 33
    assert notes == ["intrinsics of 6 of 6 images (pinhole, brown) from lenses.csv"]


def test_lenses_of_json_of_some_images(tmp_path, photographs):
    entry = {"model": "OPENCV_FISHEYE", "width": 100, "height": 100, "params": [40, 40, 50, 50, 0.02, -0.01, 0, 0]}
    (tmp_path / "lenses.json").write_text(json.dumps({"back": entry, "other/7.png": entry}))
    lenses, notes = read_lenses(tmp_path / "lenses.json", photographs)
    check(lenses, photographs, {"back": BACK})
    assert notes[0].endswith(
        "2 of 6 images (fisheye) from lenses.json; 1 others are of no image here, such as other/7.png"
    )


def write_cameras_json(path, place=PLACE, unit="metre"):
    cameras = (
        PhysicalCamera(0, "front", FRONT, np.eye(4) if place is not None else None),
        PhysicalCamera(1, "left", LEFT, place),
    )
    images = [
        PosedImage(f"{name}/0.png", width, height, lens, np.eye(4), camera)
        for camera, (name, width, height, lens) in enumerate([("front", 120, 90, FRONT), ("left", 80, 120, LEFT)])
    ]
    write_cameras(path, Reconstruction(tuple(images), cameras, length_unit=unit))


def test_our_cameras_json_is_by_image_then_by_camera_and_a_rig(tmp_path, photographs):
    write_cameras_json(tmp_path / "ours.json")
    lenses, _ = read_lenses(tmp_path / "ours.json", photographs)
    check(lenses, photographs, {"front": FRONT, "left": LEFT})  # images of step 1 are not in it, their cameras are
    rig = read_rig(tmp_path / "ours.json")
    assert [(one.name, one.size) for one in rig.cameras] == [("front", (90, 120)), ("left", (120, 80))]
    np.testing.assert_array_equal(rig.named("left").rig_from_camera, PLACE)
    assert "of 4 of 6 images" in rig_notes(rig, tmp_path / "ours.json", photographs)[0]
    write_cameras_json(tmp_path / "ours.json", place=None)
    with pytest.raises(ValueError, match="none of its cameras has a rig_from_camera"):
        read_rig(tmp_path / "ours.json")
    write_cameras_json(tmp_path / "ours.json", unit="scene")
    with pytest.raises(ValueError, match="those of a rig must be metres"):
        read_rig(tmp_path / "ours.json")


def test_kalibr_s_pixels_are_moved_by_half(tmp_path, photographs):
    pytest.importorskip("yaml")
    row = "camera_model: pinhole, distortion_model: radtan, distortion_coeffs: [-0.2, 0.05, 0.001, -0.001]"
    (tmp_path / "camchain.yaml").write_text(
        f"left: {{{row}, intrinsics: [80, 80, 40.5, 57.5], resolution: [80, 120]}}\n"
    )
    lenses, _ = read_lenses(tmp_path / "camchain.yaml", photographs)  # the only camera is that of all
    check(lenses, photographs, {"front": LEFT, "left": LEFT, "back": LEFT})
    assert lenses["left/0.png"].size == (120, 80)
    rig = read_rig(tmp_path / "camchain.yaml")
    assert "2 of 6 images" in rig_notes(rig, tmp_path / "camchain.yaml", photographs)[0]


def test_rig_config_gives_places_or_lenses(tmp_path, photographs):
    cameras = [
        {
            "image_prefix": "front/",
            "ref_sensor": True,
            "camera_model_name": "PINHOLE",
            "camera_params": [95, 96, 58, 47],
        },
        {"image_prefix": "left/"},
    ]
    path = tmp_path / "rig_config.json"
    path.write_text(json.dumps([{"cameras": cameras}]))
    check(read_lenses(path, photographs)[0], photographs, dict.fromkeys(("front", "left", "back"), FRONT))
    with pytest.raises(ValueError, match=r"does not say where left sits in the rig; add it"):
        rig_notes(read_rig(path), path, photographs)
    cameras[1] |= {"cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [1, 0, 0]}
    path.write_text(json.dumps([{"cameras": cameras}]))
    rig = read_rig(path)
    np.testing.assert_array_equal(rig.named("left").rig_from_camera[:3, 3], [-1, 0, 0])
    assert rig_notes(rig, path, photographs)[0].startswith(
        "rig of 2 cameras (1 with lenses) of 4 of 6 images; its frame"
    )
    with pytest.raises(ValueError, match="the rig's cameras are front, left, the images are of back; put the images"):
        rig_notes(rig, path, photographs[2:3])


def write_model(folder, names, points=True):
    """A COLMAP model in text, two cameras; the poses are camera_from_world."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(
        "# Camera list\n7 PINHOLE 120 90 95 96 58 47\n9 OPENCV 80 120 80 80 41 58 -0.2 0.05 0.001 -0.001\n"
    )
    rows = [f"{i + 1} 1 0 0 0 {i} 0 0 {7 if 'front' in name else 9} {name}\n\n" for i, name in enumerate(names)]
    (folder / "images.txt").write_text("".join(rows))
    (folder / "points3D.txt").write_text("")


def test_colmap_models_are_by_image_and_a_lone_camera_is_of_all(tmp_path, photographs):
    pytest.importorskip("pycolmap")
    write_model(tmp_path / "sparse/0", ["front/0.png", "left/0.png", "left/1.png"])
    for path in (tmp_path, tmp_path / "sparse/0", tmp_path / "sparse/0/cameras.txt"):
        lenses, notes = read_lenses(path, photographs)
        assert {name: one.lens for name, one in lenses.items()} == {
            "front/0.png": FRONT, "left/0.png": LEFT, "left/1.png": LEFT
        }  # fmt: skip
    assert lenses["front/0.png"].size == (90, 120) and "3 of 6" in notes[0]
    (tmp_path / "sparse/0/images.txt").unlink()
    with pytest.raises(ValueError, match="has 2 cameras, and no images.txt beside it"):
        read_lenses(tmp_path / "sparse/0/cameras.txt", photographs)
    (tmp_path / "cameras.txt").write_text("# one\n1 PINHOLE 120 90 95 96 58 47\n")
    lenses, _ = read_lenses(tmp_path / "cameras.txt", photographs)
    check(lenses, photographs, dict.fromkeys(("front", "left", "back"), FRONT))


def test_transforms_json_states_lenses(tmp_path, photographs):
    frame = {"file_path": "./images/front/1.png", "transform_matrix": np.eye(4).tolist()}
    content = {"fl_x": 95, "fl_y": 96, "cx": 58, "cy": 47, "w": 120, "h": 90, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    lenses, _ = read_lenses(tmp_path / "transforms.json", photographs)
    assert {name: (one.lens, one.size) for name, one in lenses.items()} == {"front/1.png": (FRONT, (90, 120))}


def test_a_camera_s_images_may_lie_deeper_than_its_name(tmp_path):
    (tmp_path / "lenses.csv").write_text("cam0, PINHOLE, 120, 90, 95, 96, 58, 47")
    images = [Photograph(tmp_path / name, name, name[:9]) for name in ("cam0/data/1.png", "cam1/data/1.png")]
    assert list(read_lenses(tmp_path / "lenses.csv", images)[0]) == ["cam0/data/1.png"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("up, PINHOLE, 9, 9, 1, 1, 1, 1", "states lenses of up, which are none of the 6 images, such as front/0.png"),
        ("front, PINHOLE, 9, 9, 1, 1, 1", "PINHOLE has 3 parameters, must be fx, fy, cx, cy"),
        ("front, CAHVOR, 9, 9, 1", "camera model 'CAHVOR' is none of SIMPLE_PINHOLE"),
        ("front, PINHOLE, 9.5, 9, 1, 1, 1, 1", "sides are whole numbers"),
        ("front, PINHOLE, 0, 9, 1, 1, 1, 1", "width 0 and height 9 must be at least 1"),
        ("front, PINHOLE, 9, 9, -1, 1, 1, 1", "focal lengths -1.0, 1.0 must be positive"),
        ("front, PINHOLE", "must be name, model, width, height and parameters"),
        ("*,PINHOLE,9,9,1,1,1,1\n*,PINHOLE,9,9,1,1,1,1", r"line 2: \* is there twice"),
        ("1.png,PINHOLE,9,9,1,1,1,1", "states lenses of 1.png, which are none"),  # of three images: of none
        ("a/front/1.png,PINHOLE,9,9,1,1,1,1\nfront/1.png,PINHOLE,9,9,1,1,1,1", "are the image front/1.png; remove one"),
        ("", "holds no row"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_a_line(tmp_path, photographs, text, message):
    (tmp_path / "lenses.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        read_lenses(tmp_path / "lenses.csv", photographs)
    assert str(tmp_path / "lenses.csv") in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_calibration_of_another_size_says_how_the_two_differ(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 40)).save(tmp_path / "plain.jpg")
    turned, plain = (Photograph(tmp_path / f"{name}.jpg", f"{name}.jpg") for name in ("turned", "plain"))
    check_size(turned, (40, 30), CalibratedCamera("a", FRONT, (40, 30)))
    check_size(turned, (40, 30), CalibratedCamera("a", FRONT))
    with pytest.raises(
        ValueError, match=r"turned.jpg: is 30 x 40 .*for 40 x 30: the image as it is stored, before its EXIF"
    ):
        check_size(turned, (40, 30), CalibratedCamera("a", FRONT, (30, 40)))
    with pytest.raises(ValueError, match=r"plain.jpg: .* an image on its side; calibrate the upright image"):
        check_size(plain, (40, 30), CalibratedCamera("a", FRONT, (30, 40)))
    with pytest.raises(ValueError, match=r"resized by 0.25; give the original images, or multiply .* by 0.25"):
        check_size(plain, (40, 30), CalibratedCamera("a", FRONT, (160, 120)))
    with pytest.raises(ValueError, match=r"for 30 x 30, of another shape; give the calibration of these images"):
        check_size(plain, (40, 30), CalibratedCamera("a", FRONT, (30, 30)))


def test_exif_tells_a_focal_length_where_it_is_asked_for(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.new("RGB", (400, 300)).save(tmp_path / "phone.jpg", exif=exif)
    Image.new("RGB", (400, 300)).save(tmp_path / "bare.jpg")
    both = [Photograph(tmp_path / f"{name}.jpg", f"{name}.jpg") for name in ("phone", "bare")]
    lenses, notes = exif_lenses(both, {one.name: (300, 400) for one in both})
    half_diagonal = np.hypot(36, 24) / 2  # of 35 mm film: the angle of view along the diagonal is the same
    ray = lenses["phone.jpg"].lens.rays(np.array([400.0, 300.0]))
    np.testing.assert_allclose(np.hypot(*ray[:2]) / ray[2], half_diagonal / 26)
    assert list(lenses) == ["phone.jpg"] and notes[0].startswith("intrinsics of 1 of 2 images by their EXIF")
    with pytest.raises(ValueError, match="bare.jpg has no FocalLengthIn35mmFilm"):
        exif_lenses(both[1:], {"bare.jpg": (300, 400)})


def test_one_camera_s_rig_is_of_images_in_no_folder():
    rig = RigCalibration((CalibratedCamera("cam0", FRONT, None, np.eye(4)),), "cam0")
    assert "of 1 of 1 images" in rig_notes(rig, Path("camchain.yaml"), [Photograph(Path("a.jpg"), "a.jpg")])[0]
