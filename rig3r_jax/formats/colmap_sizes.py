"""What the binary files of a COLMAP model promise, held against their bytes: COLMAP itself believes every count.

Layouts: COLMAP, src/colmap/scene/reconstruction_io_binary.cc. Numbers are little-endian; a file begins with the count
(u64) of what it holds.
"""

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

from rig3r_jax.formats.declared import check_present

_COUNT, _SMALL_COUNT = struct.Struct("<Q"), struct.Struct("<I")
_POINT_2D, _TRACK_ELEMENT = 24, 8  # bytes
_SENSOR, _POSE, _DATA = 8, 56, 16  # bytes: type i32 and id u32; qvec and tvec f64; a sensor and an id u64
_LEAST = {"cameras": 24, "images": 73, "points3D": 51, "frames": 68, "rigs": 8}  # bytes that one has at least


def check_binary_model(folder: Path) -> None:
    """ValueError, naming the file, where one promises more than it holds."""
    for name, least in _LEAST.items():
        path = folder / f"{name}.bin"
        if path.is_file():
            check_present(path, _COUNT.size, path.stat().st_size)
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                (count,) = _COUNT.unpack_from(data)
                check_present(path, count * least, len(data), f"bytes of {name}")
                if name in _AFTER:
                    _walk(path, data, count, _AFTER[name])


def _walk(path: Path, data: mmap.mmap, count: int, after: Callable[[mmap.mmap, int], int]) -> None:
    at = _COUNT.size
    for number in range(count):
        try:
            at = after(data, at)
        except (struct.error, ValueError) as error:
            raise ValueError(f"{path}: number {number} of {count} is cut short ({error}); restore the file") from error
        check_present(path, at, len(data), f"bytes to the end of number {number}")


def _after_image(data: mmap.mmap, at: int) -> int:
    """Behind an image: id u32, qvec 4 f64, tvec 3 f64, camera u32, name, zero, count u64, points of 24 bytes."""
    end = data.find(b"\0", at + 64) + 1
    if not end:
        raise ValueError("its name has no end")
    return end + _COUNT.size + _POINT_2D * _COUNT.unpack_from(data, end)[0]


def _after_point(data: mmap.mmap, at: int) -> int:
    """Behind a point: id u64, xyz 3 f64, colour 3 u8, error f64, count u64, elements of 8 bytes."""
    return at + 51 + _TRACK_ELEMENT * _COUNT.unpack_from(data, at + 43)[0]


def _after_frame(data: mmap.mmap, at: int) -> int:
    """Behind a frame: id u32, rig u32, pose, count u32, data."""
    at += 8 + _POSE
    return at + 4 + _DATA * _SMALL_COUNT.unpack_from(data, at)[0]


def _after_rig(data: mmap.mmap, at: int) -> int:
    """Behind a rig: id u32, count u32, a sensor, and of each other a sensor, whether it has a pose u8, the pose."""
    (count,) = _SMALL_COUNT.unpack_from(data, at + 4)
    check_present("its sensors", at + 8 + count * _SENSOR, len(data))
    at += 8 + (_SENSOR if count else 0)
    for _ in range(count - 1):
        (has_pose,) = struct.unpack_from("<B", data, at + _SENSOR)
        at += _SENSOR + 1 + (_POSE if has_pose else 0)
    return at


_AFTER = {"frames": _after_frame, "rigs": _after_rig, "images": _after_image, "points3D": _after_point}
