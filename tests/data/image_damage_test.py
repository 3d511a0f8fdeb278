"""Whole images of every writer pass; most damage behind a header is found, and is found the second time too."""

import collections

import cv2
import numpy as np
import pytest

from rig3r_jax.data import image_damage
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.image_damage import check_whole
from rig3r_jax.data.scene import BadRecord
from tests.data.image_bytes_test import saved, smooth

PIXELS = smooth(96, 128)


def jpeg(*flags):
    return cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_QUALITY, 92, *flags])[1].tobytes()


WHOLE = {
    "baseline": jpeg(),
    "progressive": jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "optimized": jpeg(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "restarts": jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "grey": saved(PIXELS[..., 0], "JPEG"),
    "padded": jpeg() + bytes(512),
    "stray bytes": jpeg()[:20] + b"\0\0junk" + jpeg()[20:],
    "png": saved(PIXELS, "PNG"),
    "webp": saved(PIXELS, "WEBP"),
    "no image": b"anything",
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_images_pass(name):
    """`check_whole` raises for the others, and gives nothing back."""
    check_whole(WHOLE[name])
    check_whole(WHOLE[name])  # which it remembers


# Of the damage that pixels show, what must be refused at least: how much is depends on the codes of the kind.
SHARES = {"baseline": 0.5, "progressive": 0.6, "restarts": 0.5, "optimized": 0.2}


@pytest.mark.parametrize("name, share", SHARES.items())
def test_damage_that_shows_is_found_as_far_as_it_leaves_a_trace(name, share):
    """Bytes that decode to as many other blocks leave none: of tables made for the image nearly all codes are valid."""
    whole, rng = WHOLE[name], np.random.default_rng(0)
    pixels, refused, visible = decode_image(whole).astype(int), 0, 0
    for _ in range(60):
        data = bytearray(whole)
        at = int(rng.integers(len(data) // 4, len(data) - 60))
        data[at : at + 20] = rng.bytes(20)
        try:
            check_whole(bytes(data))
        except BadRecord as error:
            assert "is damaged behind its header (" in str(error)
            refused += 1
            visible += 1
        else:
            visible += np.mean(np.abs(decode_image(bytes(data)) - pixels) > 8) > 0.02
    assert visible > 30 and refused > share * visible


def test_every_byte_of_a_png_is_checked():
    whole = WHOLE["png"]
    for at in range(60, len(whole) - 20, 997):
        with pytest.raises(BadRecord, match="damaged behind its header"):
            check_whole(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_what_was_looked_at_is_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(image_damage, "_MOST_REMEMBERED", 5)
    monkeypatch.setattr(image_damage, "_whole", collections.OrderedDict())
    for number in range(20):
        check_whole(WHOLE["baseline"] + bytes([number]))
    assert len(image_damage._whole) == 5
