"""The two cameras of the Kinect of 7-Scenes, and how depth comes into the colour camera.

Focal lengths are 525 for colour and 585 for depth, 26 mm apart. Of the transform that is published with these numbers
(measured on a Kinect in Lyon; in kapture's rigs.txt and in ACE) the translation is taken and the rotation left out: it
turns by 0.7 degrees, with principal points of its own which 7-Scenes does not share, and moves depth off the edges of
the images (tests/data/sources/registration_test.py measures both). Poses are the colour camera's, as matches say.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.files import read_numbers
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.source import Source
from rig3r_jax.data.sources.registration import Registration
from rig3r_jax.geometry import rigid

_INTRINSICS_FILE = "camera-intrinsics.txt"
# fx, fy, cx, cy of 640x480 images, whose middle is 320, 240: the centre of the first pixel is at 0.5.
_SIZE = (480, 640)  # height, width
_COLOR = (525.0, 525.0, 320.0, 240.0)
_DEPTH = (585.0, 585.0, 320.0, 240.0)
_AUTO = "auto"
_LARGEST_OFFSET = 1.0  # metres between two cameras of one device


@dataclasses.dataclass(frozen=True)
class KinectCameras(Source):
    """Options of the two cameras.

    A `camera-intrinsics.txt` that states another camera than the data set's depth camera says that these are other
    recordings in this layout: it holds for colour and depth, which lie on each other.
    """

    intrinsics: str | tuple[float, ...] = _AUTO  # of colour: fx, fy, cx, cy, the centre of the first pixel at 0.5
    depth_intrinsics: str | tuple[float, ...] = _AUTO  # of depth, before it is registered
    register_depth: str | bool = _AUTO  # into the colour camera; False: depth images lie on the colour images
    depth_origin: tuple[float, float, float] = (-0.0256, 0.0001, 0.0020)  # of the depth camera in colour's, metres

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        for key in ("intrinsics", "depth_intrinsics"):
            value = getattr(self, key)
            four = not isinstance(value, str) and len(value) == 4 and all(map(math.isfinite, value))
            if value != _AUTO and not (four and min(value[:2]) > 0):
                yield f"{key}={value!r} must be {_AUTO} or fx, fy, cx, cy in pixels, finite, fx and fy positive"
        if not all(abs(value) < _LARGEST_OFFSET for value in self.depth_origin):
            largest = f"{_LARGEST_OFFSET:g} from 0"
            yield f"depth_origin={self.depth_origin!r} must be three numbers of metres, each nearer than {largest}"
        if self.register_depth not in (_AUTO, True, False):
            yield f"register_depth={self.register_depth!r} must be {_AUTO}, True or False"

    def cameras(
        self, folders: Sequence[Path], size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "3 3"], Registration | None]:
        """Intrinsics of colour, and how depth is registered, if it is: by the options, the file, or the data set.

        Args:
            folders: that of the frames, and others that may hold a camera-intrinsics.txt; the first counts.
            size: height and width of the images.

        BadRecord for a file that is no matrix, and for images whose sides the published numbers do not fit.
        """
        stated = _stated_intrinsics(folders)
        is_other_camera = stated is not None and np.abs(stated - _matrix(_DEPTH)).max() > 1  # pixel
        register = not is_other_camera if self.register_depth == _AUTO else self.register_depth
        if self.intrinsics != _AUTO:
            color = _matrix(self.intrinsics)
        else:
            color = stated if is_other_camera else _published(_COLOR, "intrinsics", folders[0], size)
        if not register:
            return color, None
        if self.depth_intrinsics != _AUTO:
            depth = _matrix(self.depth_intrinsics)
        else:
            depth = stated if stated is not None else _published(_DEPTH, "depth_intrinsics", folders[0], size)
        color_from_depth = rigid.from_rotation_translation(np.eye(3), np.array(self.depth_origin))
        return color, Registration(depth, color, color_from_depth)


def _stated_intrinsics(folders: Sequence[Path]) -> Float[np.ndarray, "3 3"] | None:
    """Of the first folder that has the file; None where there is none."""
    for folder in folders:
        if (folder / _INTRINSICS_FILE).is_file():
            return read_numbers(folder / _INTRINSICS_FILE, (3, 3))
    return None


def _published(numbers: Sequence[float], option: str, folder: Path, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the data set for images of this size; BadRecord where their sides have another ratio."""
    height, width = size
    scale = width / _SIZE[1]
    if height != scale * _SIZE[0]:
        raise BadRecord(
            f"{folder}: images are {size}, the published intrinsics are for {_SIZE} (height, width) and its multiples; "
            f"set {option}=[fx,fy,cx,cy] of these images"
        )
    return _matrix([scale * number for number in numbers])


def _matrix(numbers: Sequence[float]) -> Float[np.ndarray, "3 3"]:
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
