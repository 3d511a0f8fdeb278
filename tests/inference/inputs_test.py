"""All inputs of a reconstruction together: what is odd is named or left out, what is known fits its images."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.inference.inputs import InputOptions, read_inputs
from rig3r_jax.inference.masks import find_masks, read_mask
from rig3r_jax.inference.photographs import Photograph, find_photographs, read_upright, upright_size, usable

PIXELS = np.zeros((8, 16, 3), np.uint8)
PIXELS[:, :8], PIXELS[:, 8:] = (200, 40, 10), (20, 150, 220)
IMAGE = Image.fromarray(PIXELS)


def photograph(path):
    return Photograph(path, path.name)


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "RGBA", "I;16"])
def test_pngs_of_every_kind_become_rgb(tmp_path, mode):
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257) if mode == "I;16" else IMAGE.convert(mode)
    if mode == "RGBA":
        image.putalpha(0)  # what is transparent has colours all the same
    image.save(tmp_path / "a.png")
    expected = np.repeat(PIXELS[..., :1], 3, axis=2) if mode == "I;16" else np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_upright(photograph(tmp_path / "a.png")), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp", ".ppm", ".JPEG"])
def test_files_of_every_kind_become_rgb(tmp_path, suffix):
    image = IMAGE.convert("CMYK") if suffix == ".jpg" else IMAGE
    image.save(tmp_path / f"a{suffix}", quality=99)
    upright = read_upright(photograph(tmp_path / f"a{suffix}")).astype(int)
    assert np.abs(upright - PIXELS)[:, [0, -1]].max() <= 4
    assert upright_size(photograph(tmp_path / f"a{suffix}")) == (8, 16)


def broken(folder):
    """Files by name, with what is said of them."""
    IMAGE.resize((64, 64)).save(folder / "good.png")
    Image.effect_noise((64, 64), 90).save(folder / "good.jpg")
    IMAGE.resize((64, 64)).save(folder / "header.avif")
    avif = bytearray((folder / "header.avif").read_bytes())
    avif[avif.find(b"ipco") - 4 : avif.find(b"mdat") - 4] = b""
    (folder / "header.avif").write_bytes(avif)
    png, jpeg = (bytearray((folder / f"good.{suffix}").read_bytes()) for suffix in ("png", "jpg"))
    png[len(png) // 2] ^= 255
    (folder / "checksum.png").write_bytes(png)
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(400))
    (folder / "pointer.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 1234\n")
    os.symlink(folder / "nowhere", folder / "link.jpg")
    shutil.copy(folder / "good.jpg", folder / "two\nlines.jpg")
    return {
        "checksum.png": "is damaged behind its header .*; restore it or leave it out",
        "header.avif": "does not decode: .*; fetch the file again or leave it out",
        "cut.jpg": "cut short or damaged .*; restore it or leave it out",
        "empty.jpg": "is empty: .*; fetch it again or leave it out",
        "phone.jpg": "is a HEIC image, which is not read.*; convert it to JPEG or leave it out",
        "pointer.jpg": "is a Git LFS pointer .* run `git lfs pull` in its repository or leave it out",
        "link.jpg": "cannot be read .No such file or directory.; restore the file",
        "two\nlines.jpg": "files of cameras hold no names with backslashes or characters that do not print; rename it",
    }


def test_what_cannot_be_read_is_named_or_left_out_and_counted(tmp_path):
    expected = broken(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    shutil.copy(tmp_path / "good.jpg", tmp_path / ".hidden.jpg")
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message) as refusal:
            usable([photograph(tmp_path / name)])
        assert repr(name)[1:-1] in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="; nor can 7 others be used; --skip-bad leaves such images out"):
        read_inputs(InputOptions([str(tmp_path)]), tmp_path / "out")
    inputs = read_inputs(InputOptions([str(tmp_path)], skip_bad=True), tmp_path / "out")
    assert [one.name for one in inputs.photographs] == ["good.jpg", "good.png"]
    assert sorted(entry.frame for entry in inputs.left_out) == sorted(expected)
    assert list(inputs.notes[-9:]) == ["8 left out:", *(one.reason for one in inputs.left_out)]
    (tmp_path / "good.jpg").unlink()
    (tmp_path / "good.png").unlink()
    with pytest.raises(ValueError, match="nor can 7 others be used$"):
        read_inputs(InputOptions([str(tmp_path)], skip_bad=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_kinds_that_are_not_read_are_told(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no image that is read, but 1 .heic; convert them to JPEG"):
        find_photographs([tmp_path])
    with pytest.raises(
        ValueError, match=r"IMG_1.HEIC: is no image file that is read .* convert it to JPEG, or leave it"
    ):
        find_photographs([tmp_path / "IMG_1.HEIC"])
    IMAGE.save(tmp_path / "a.png")
    notes = []
    assert len(find_photographs([tmp_path], notes=notes)[1]) == 1
    assert notes == [f"{tmp_path}: of its files 1 .heic are not read; convert them to JPEG"]
    with pytest.raises(ValueError, match="empty: holds no image"):
        (tmp_path / "empty").mkdir()
        find_photographs([tmp_path / "empty"])


def test_one_image_given_twice_is_one_and_equal_names_are_two(tmp_path):
    for folder in ("a", "b c/ü"):
        (tmp_path / folder).mkdir(parents=True)
        IMAGE.save(tmp_path / folder / "0.png")
    os.symlink(tmp_path / "a/0.png", tmp_path / "link.png")
    notes = []
    inputs = [tmp_path / "a/0.png", tmp_path / "b c/../a/0.png", tmp_path / "link.png", str(tmp_path / "b c/*/0.png")]
    folder, images = find_photographs(inputs, notes=notes)
    assert folder == tmp_path and [one.name for one in images] == ["a/0.png", "b c/ü/0.png"]
    assert notes == ["2 images were given twice; each is taken once"]


@pytest.fixture
def rig_folder(tmp_path):
    """Two cameras at three steps, one portrait by EXIF; masks of one."""
    for camera, orientation in (("front", 1), ("left", 6)):
        (tmp_path / "images" / camera).mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        for step in range(3):
            IMAGE.save(tmp_path / "images" / camera / f"{step}.jpg", exif=exif)
    return tmp_path


def test_all_that_is_known_comes_together(rig_folder):
    cameras = [
        {"image_prefix": "front/", "ref_sensor": True},
        {"image_prefix": "left/", "cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [1, 0, 0]},
    ]
    (rig_folder / "rig_config.json").write_text(json.dumps([{"cameras": cameras}]))
    (rig_folder / "lenses.csv").write_text("front, PINHOLE, 16, 8, 9, 9, 8, 4\nleft, PINHOLE, 8, 16, 9, 9, 4, 8")
    (rig_folder / "times.txt").write_text("0.0 0\n0.1 1\n0.2 2")
    (rig_folder / "poses.txt").write_text("\n".join(f"{t} {t} 0 0 0 0 0 1" for t in (0.0, 0.1, 0.2)))
    (rig_folder / "masks/left").mkdir(parents=True)
    Image.new("L", (8, 16), 255).save(rig_folder / "masks/left/2.jpg.png")
    files = {name: rig_folder / file for name, file in [
        ("rig", "rig_config.json"), ("cameras", "lenses.csv"), ("times", "times.txt"), ("poses", "poses.txt"),
        ("masks", "masks"),
    ]}  # fmt: skip
    inputs = read_inputs(InputOptions([str(rig_folder)], every=2, scale=1.5, **files), rig_folder / "out")
    assert [one.name for one in inputs.photographs] == ["front/0.jpg", "left/0.jpg", "front/2.jpg", "left/2.jpg"]
    assert inputs.sizes == {one.name: (16, 8) if one.camera == "left" else (8, 16) for one in inputs.photographs}
    known = inputs.known
    assert known.times == {f"{camera}/{n}.jpg": n / 10 for n in range(3) for camera in ("front", "left")}
    assert known.lenses["left/2.jpg"].lens.intrinsics[1, 2] == 8 and known.scale == 1.5
    np.testing.assert_allclose(known.world_from_camera["left/2.jpg"][:3, 3], [0.2 - 1, 0, 0])
    assert known.masks == {"left/2.jpg": rig_folder / "masks/left/2.jpg.png"}
    said = "\n".join(inputs.notes)
    for words in ("times of 6 of 6", "rig of 2 cameras (0 with lenses) of 4 of 4 images", "intrinsics of 4 of 4",
                  "poses in poses.txt of 4 of 4 images", "masks of 1 of 4 images; bl", "scale 1.5, given"):  # fmt: skip
        assert words in said
    (rig_folder / "lenses.csv").write_text("*, PINHOLE, 16, 8, 9, 9, 8, 4")
    with pytest.raises(
        ValueError, match="left/0.jpg: is 8 x 16 pixels upright, .* before its EXIF orientation turns it"
    ):
        read_inputs(InputOptions([str(rig_folder)], cameras=rig_folder / "lenses.csv"), rig_folder / "out")
    assert not (rig_folder / "out").exists()


def test_options_that_do_not_go_together_are_refused(tmp_path):
    for options, message in (
        ({"every": 0}, "--every=0 must be at least 1"),
        ({"given": ("poses",)}, "--given and --scene are of data sets"),
        ({"source": "tum", "given": ("lenses",)}, "--given lenses: must be poses"),
        ({"source": "tumm"}, "unknown source 'tumm'"),
        ({"source": "tum"}, "depth of no use|give one folder|data folder does not exist|holds"),
        ({"rig": tmp_path / "none.json"}, "none.json: is no file; give a rig_config.json"),
    ):
        with pytest.raises(ValueError, match=message):
            read_inputs(InputOptions([str(tmp_path / "nothing")], **options), tmp_path / "out")


def test_masks_are_found_by_colmap_s_names_and_black_is_ignored(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    (masks / "deep").mkdir(parents=True)
    names = ["a.jpg", "b.png", "c.jpg"]
    for name in names:
        IMAGE.save(images / name)
    photographs = [photograph(images / name) for name in names]
    sizes = {name: (8, 16) for name in names}
    with pytest.raises(
        ValueError, match="has a mask of none of the 3 images; it holds no PNG, the mask of a.jpg must be"
    ):
        find_masks(masks, photographs, sizes)
    values = np.full((8, 16), 255, np.uint8)
    values[:3] = 0
    values[3] = 1
    Image.fromarray(values).save(masks / "a.png")
    with pytest.raises(ValueError, match="files are named such as a.png, the mask of a.jpg must be a.jpg.png"):
        find_masks(masks, photographs, sizes)
    Image.fromarray(values).save(masks / "a.jpg.png")
    Image.fromarray(values).convert("RGB").save(masks / "b.png")
    found, notes = find_masks(masks, photographs, sizes)
    assert found == {"a.jpg": masks / "a.jpg.png", "b.png": masks / "b.png"}
    assert notes == ["masks of 2 of 3 images; black is ignored; 1 others are of no image here, such as a.png"]
    for path in found.values():
        np.testing.assert_array_equal(read_mask(path, (8, 16)), values > 0)
    with pytest.raises(
        ValueError, match="b.png: this mask is 16 x 8 pixels, its image 8 x 16 as viewers show it; make a mask"
    ):
        find_masks(masks, photographs, sizes | {"b.png": (16, 8)})
    with pytest.raises(ValueError, match="its image 4 x 4 as viewers show it"):
        read_mask(masks / "a.png", (4, 4))
    with pytest.raises(ValueError, match="has a mask of none"):  # the images themselves are no masks
        find_masks(images, photographs, sizes)
    (masks / "a.jpg.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="a.jpg.png: is no image that opens"):
        find_masks(masks, photographs, sizes)
