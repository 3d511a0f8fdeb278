"""Headers are read without decoding; a reduced decoding is the mean of blocks, at their place."""

import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data import image_bytes
from rig3r_jax.data.image_bytes import decode_image, decoded_reduction, largest_reduction, read_image, usable_size
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


def saved(image, kind, **options):
    """Bytes as Pillow writes them."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_what_follows_the_image_is_of_no_account():
    image = smooth(48, 64)
    plain = saved(image, "JPEG", quality=95)
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(5000)  # a motion photo's
    for jpeg in (
        saved(image, "MPO", quality=95, save_all=True, append_images=[Image.fromarray(image[::2, ::2])]),
        plain + film,
        plain + b"\0" * 4096,
        plain + b"SEFT" + plain[:900],
        plain[:20] + b"\0\0junk" + plain[20:],  # stray bytes before a marker, which decoders skip
    ):
        assert usable_size(jpeg) == (48, 64)
        np.testing.assert_array_equal(decode_image(jpeg), decode_image(plain))
        assert decode_image(jpeg, 2).shape == (24, 32, 3)
    png = encode(image, ".png") + b"trailing" * 900
    assert usable_size(png) == (48, 64)
    np.testing.assert_array_equal(decode_image(png), image)


def test_pixels_of_every_sort_are_rgb_bytes_as_stored():
    grey, colour = smooth(40, 56)[..., 0], smooth(40, 56)
    alpha = np.dstack([colour, np.full((40, 56), 7, np.uint8)])
    deep = cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # the phone was turned: pixels stay where the calibration wants them
    stored = saved(colour, "JPEG", quality=95)
    for data, expected in (
        (saved(grey, "PNG"), np.dstack([grey] * 3)),
        (deep, np.dstack([grey] * 3)),
        (saved(alpha, "PNG"), colour),
        (saved(Image.fromarray(colour).quantize(256), "PNG"), None),
        (saved(colour, "JPEG", quality=95, exif=exif), decode_image(stored)),
        (saved(colour, "JPEG", quality=95, progressive=True), decode_image(stored)),
        (saved(Image.fromarray(colour).convert("CMYK"), "JPEG", quality=95), None),
        (saved(grey, "JPEG", quality=95), None),
        (saved(colour, "WEBP", lossless=True), colour),
        (saved(colour, "BMP"), colour),
        (saved(colour, "TIFF"), colour),
        (cv2.imencode(".tiff", colour[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), colour),
        (saved(colour, "PPM"), colour),
        (saved(grey, "PPM"), np.dstack([grey] * 3)),
        (b"P6 # by hand\n56 40 65535\n" + (colour.astype(">u2") * 257).tobytes(), colour),
        (saved(Image.fromarray(colour).quantize(256), "PNG", transparency=0), None),
    ):
        assert usable_size(data) == (40, 56)
        decoded = decode_image(data)
        if expected is None:
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert decoded.shape == (40, 56, 3) and np.abs(decoded.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2345\n", "is a Git LFS pointer .* 2,345 b"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "is a web page 'Sign in'"),
        (b"\0\0\0\x24ftypheic" + bytes(90), "is a HEIC image, which is not read; convert it to JPEG"),
        (bytes(5000), "begins with zeros"),
        (b"\x1f\x8b\x08" + bytes(40), "packed by gzip"),
        (encode(smooth(32, 32), ".jpg")[:-40], "cut short"),
        (encode(smooth(32, 32), ".png")[:-12], "cut short"),
        (encode(smooth(32, 32), ".webp")[:-40], "does not decode: it is a WEBP image, cut short or damaged"),
        (encode(smooth(32, 32), ".ppm")[:-40], "does not decode"),
    ],
)
def test_what_does_not_decode_is_named_with_the_reason(tmp_path, data, reason):
    (tmp_path / "0001.JPG").write_bytes(data)
    with pytest.raises(BadRecord, match=rf"0001.JPG: image of {len(data)} bytes .*{reason}") as error:
        read_image(tmp_path / "0001.JPG")
    assert "\n" not in str(error.value)


def stating(height, width):
    """A small PNG whose header states another size."""
    data = bytearray(encode(smooth(16, 16), ".png"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def test_memory_is_bounded():
    jpeg, png = encode(smooth(16, 16), ".jpg"), encode(smooth(16, 16), ".png")
    phone, satellite = (6048, 8064), (32000, 32000)
    assert decoded_reduction(jpeg, phone, 1.0) == decoded_reduction(png, phone, 8.0) == 1
    assert decoded_reduction(jpeg, phone, 11.8) == 8
    assert decoded_reduction(jpeg, satellite, 1.0) == 4  # as few as fit
    with pytest.raises(BadRecord, match="32000x32000 .* decoded to more than 134217728 pixels; store it smaller"):
        usable_size(stating(*satellite))
    with pytest.raises(BadRecord, match="20x40000 .* sides may be 32767; store it smaller"):
        usable_size(stating(20, 40000))


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(image_bytes, "_LARGE", 32 * 32)
    at_once, most, lock = 0, 0, threading.Lock()
    decode = cv2.imdecode

    def counted(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        image = decode(*arguments)
        with lock:
            at_once -= 1
        return image

    monkeypatch.setattr(cv2, "imdecode", counted)
    data = encode(smooth(64, 64), ".png")
    threads = [threading.Thread(target=lambda: [decode_image(data) for _ in range(20)]) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == 1


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"Pf\n4 2\n-1.0\n" + bytes(32), "PPM image holds numbers of 32 bits each"),
        (encode(np.ones((4, 4), np.float32), ".tiff"), "TIFF image holds numbers of 32 bits each"),
        (b"P5\n# of a camera of 10 bits\n4 2\n1023\n" + bytes(16), "values up to 1023, must be 255 or 65535"),
    ],
)
def test_values_that_would_be_misread_are_named(data, reason):
    with pytest.raises(BadRecord, match=reason):
        usable_size(data)


@pytest.mark.parametrize("kind, options", [("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_stay_where_they_are_stored(kind, options, orientation):
    colour, exif = smooth(24, 40), Image.Exif()
    exif[0x0112] = orientation
    data = saved(colour, kind, exif=exif, **options)
    assert usable_size(data) == (24, 40)
    np.testing.assert_array_equal(decode_image(data), colour)
