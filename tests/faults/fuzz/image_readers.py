"""Readers of images and depth images."""

from pathlib import Path

import cv2
import numpy as np
import OpenEXR
from PIL import Image

from rig3r_jax.data.depth_files import DEPTH_READERS, read_pixels
from rig3r_jax.data.image_bytes import decode_image, read_image
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.depth_images import read_pfm
from tests.faults.fuzz.reader import Reader, in_file, saved


def image_readers() -> dict[str, Reader]:
    """Readers by name."""
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (56, 40))
    depth = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56)

    def image(suffix: str, content: bytes) -> Reader:
        def read(path: Path) -> None:
            data = read_image(path)[0]
            for reduction in (1, 8):
                try:
                    decode_image(data, reduction)
                except BadRecord:
                    pass  # named by who draws the frame

        return Reader(in_file(f"a{suffix}", lambda: content), read)

    def exr(folder: Path) -> Path:
        path = folder / "a.exr"
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"Z": depth.astype(np.float32)}) as file:
            file.write(str(path))
        return path

    kinds = {
        "jpeg": (".jpg", ".jpg"), "png": (".png", ".png"), "webp": (".webp", ".webp"), "bmp": (".bmp", ".bmp"),
        "tiff": (".tiff", ".tiff"), "ppm": (".ppm", ".ppm"), "jpeg 2000": (".jp2", ".jp2"),
    }  # fmt: skip
    images = {
        f"image: {name}": image(suffix, cv2.imencode(encoding, pixels)[1].tobytes())
        for name, (suffix, encoding) in kinds.items()
    }
    for name in ("GIF", "AVIF"):
        images[f"image: {name.lower()}"] = image(f".{name.lower()}", saved(Image.fromarray(pixels).save, name))
    pfm = b"Pf\n56 40\n-1.0\n" + depth.astype("<f4").tobytes()

    return images | {
        "depth: png": Reader(in_file("a.png", lambda: cv2.imencode(".png", depth)[1].tobytes()), DEPTH_READERS[".png"]),
        "depth: npz": Reader(in_file("a.npz", lambda: saved(np.savez, depth)), DEPTH_READERS[".npz"]),
        "depth: exr": Reader(exr, DEPTH_READERS[".exr"]),
        "depth: pfm": Reader(in_file("a.pfm", lambda: pfm), read_pfm),
        "pixels": Reader(
            in_file("a.png", lambda: cv2.imencode(".png", pixels)[1].tobytes()),
            lambda path: read_pixels(path, grey=True),
        ),
    }
