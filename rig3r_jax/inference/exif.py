"""Lenses by the focal length that cameras write into photographs: only where the user asks for it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rig3r_jax.formats.calibration import CalibratedCamera
from rig3r_jax.formats.exif import FOCAL_LENGTH_35MM, read_exif
from rig3r_jax.geometry.lenses import make_lens
from rig3r_jax.inference.photographs import Photograph

_DIAGONAL_35MM = math.hypot(36.0, 24.0)  # millimetres; the tag compares diagonals of view (CIPA DCG-001)


def exif_lenses(
    photographs: Sequence[Photograph], sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, CalibratedCamera], list[str]]:
    """Pinholes about the middle of the images that state a focal length in terms of 35 mm film, by name, and notes.

    Good to some percent: the tag is in whole millimetres, and a crop after the shot is not told. ValueError for none.
    """
    lenses = {}
    for photograph in photographs:
        if (millimetres := _focal_35mm(photograph)) is not None:
            height, width = sizes[photograph.name]
            focal = millimetres / _DIAGONAL_35MM * math.hypot(height, width)
            intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
            lens = make_lens("pinhole", intrinsics, np.zeros(0))
            lenses[photograph.name] = CalibratedCamera(f"EXIF {millimetres:g} mm", lens, (height, width))
    if not lenses:
        raise ValueError(
            f"--cameras exif: {photographs[0].path} has no FocalLengthIn35mmFilm, nor has any other image; leave it out"
        )
    return lenses, [f"intrinsics of {len(lenses)} of {len(photographs)} images by their EXIF focal length, a guess"]


def _focal_35mm(photograph: Photograph) -> float | None:
    try:
        value = float(read_exif(photograph.path)[FOCAL_LENGTH_35MM])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if 0 < value < math.inf else None
