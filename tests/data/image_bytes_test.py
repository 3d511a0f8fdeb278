"""Headers are read without decoding; a reduced decoding is the mean of blocks, at their place."""

import cv2
import numpy as np
import pytest

from rig3r_jax.data.image_bytes import decode_image, largest_reduction
from rig3r_jax.data.image_header import encoded_size
from rig3r_jax.data.scene import BadRecord
from tests.data.scenes import encode


def smooth(height, width):
    """Colours that vary over tens of pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_size_in_the_header():
    image = np.zeros((37, 53, 3), np.uint8)
    for encoding in (".png", ".jpg"):
        assert encoded_size(encode(image, encoding)) == (37, 53)
    progressive = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    # An EXIF block with a thumbnail of its own, before the start of frame.
    thumbnail = encode(np.zeros((8, 8, 3), np.uint8), ".jpg")
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert encoded_size(progressive[:2] + exif + progressive[2:]) == (37, 53)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(128, 192), (101, 203)])
def test_reduced_pixels_are_means_of_blocks(reduction, size):
    image = smooth(*size)
    decoded = decode_image(encode(image, ".jpg"), reduction)
    assert decoded.shape == (-(-size[0] // reduction), -(-size[1] // reduction), 3)
    rows, columns = size[0] // reduction, size[1] // reduction  # of whole blocks
    blocks = image[: rows * reduction, : columns * reduction].astype(np.float64)
    means = blocks.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    assert np.abs(decoded[:rows, :columns] - means).mean() < 2.5
    # A block further would be off by far more.
    assert np.abs(decoded[1:rows, :columns] - means[:-1]).mean() > (2 if reduction == 1 else 5)


def test_reduction_never_passes_the_shrinkage():
    jpeg, png = (encode(smooth(16, 16), kind) for kind in (".jpg", ".png"))
    expected = {0.4: 1, 1.0: 1, 1.99: 1, 2.0: 2, 3.9: 2, 4.0: 4, 7.99: 4, 8.0: 8, 50.0: 8}
    assert {shrink: largest_reduction(jpeg, shrink) for shrink in expected} == expected
    assert largest_reduction(png, 8.0) == 1


@pytest.mark.parametrize("reduction", [1, 2, 8])
def test_bytes_that_do_not_decode_are_refused(reduction):
    data = encode(smooth(64, 64), ".jpg")
    for broken in (b"", data[:2], data[:30], b"certainly not a picture"):
        with pytest.raises(BadRecord, match=r"image of .* bytes does not decode"):
            decode_image(broken, reduction)
