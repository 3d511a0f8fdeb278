"""Pictures of the images: upright, small, and every one that is missing is counted with its reason."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.exports import thumbnails
from rig3r_jax.exports.thumbnails import thumbnails_of
from tests.exports.reconstructions import rig_of_three, unordered


def _save(path, size, orientation=1, left=(250, 0, 0)):
    """An image whose left part, as viewers show it, is of a colour."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 3] = left
    picture = Image.fromarray(pixels)
    if orientation == 6:  # stored lying on its side: viewers turn it by 90 degrees
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_are_upright(tmp_path, orientation, suffix):
    one = unordered("pinhole")
    image = dataclasses.replace(one.images[0], name=f"a/b.{suffix}", width=900, height=700)
    _save(tmp_path / "photos" / "a" / f"b.{suffix}", (900, 700), orientation)
    reconstruction = dataclasses.replace(one, images=(image,), points=None, image_folder="photos")
    made = thumbnails_of(reconstruction, tmp_path)
    assert made.missing == {} and made.note() == ""
    assert made.pictures[0].shape == (249, 320, 3)
    assert (made.pictures[0][:, 10] > (200, -1, -1)).all() and (made.pictures[0][:, 200] < 40).all()


def test_stored_pixels_count_where_the_cameras_are_of_these(tmp_path):
    """A reconstruction of pixels as stored, whatever the EXIF orientation says."""
    one = unordered("pinhole")
    image = dataclasses.replace(one.images[0], name="a.jpg", width=700, height=900)
    _save(tmp_path / "a.jpg", (900, 700), 6)
    made = thumbnails_of(dataclasses.replace(one, images=(image,), points=None, image_folder="."), tmp_path)
    assert made.pictures[0].shape == (320, 249, 3)


def test_missing_pictures_are_counted_by_reason(tmp_path, monkeypatch):
    rig = rig_of_three("pinhole")
    assert thumbnails_of(rig, tmp_path).missing == {"their names are of no files": 12}
    rig = dataclasses.replace(rig, image_folder=str(tmp_path / "gone"))
    assert thumbnails_of(rig, tmp_path).missing == {f"no folder {tmp_path / 'gone'}": 12}
    for number, image in enumerate(rig.images[:6]):
        _save(tmp_path / image.name, (image.width + (number == 0), image.height))
    (tmp_path / rig.images[1].name).write_bytes(b"no image")
    (tmp_path / rig.images[2].name).write_bytes((tmp_path / rig.images[2].name).read_bytes()[:300])
    rig = dataclasses.replace(rig, image_folder=str(tmp_path))
    made = thumbnails_of(rig, tmp_path)
    assert list(made.pictures) == [3, 4, 5]
    assert made.missing == {"a file of another size": 1, "a file that does not decode": 2, "no file of that name": 6}
    assert made.note().startswith("images without a picture: 1 (a file of another size); 2 (")
    monkeypatch.setattr(thumbnails, "MOST", 3)
    made = thumbnails_of(rig, tmp_path)
    assert list(made.pictures) == [5] and made.missing["beyond 3 pictures"] == 9
