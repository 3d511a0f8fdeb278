"""Kalibr's lenses of spheres, ds and eucm, against the equations of their papers."""

import re

import numpy as np
import pytest

from rig3r_jax.formats.kalibr import read_camchain


def ds_pixel(point, xi, alpha, fx, fy, cx, cy):
    """Usenko, Demmel and Cremers 2018, equations 40 to 42, to the letter."""
    x, y, z = point
    d1 = np.sqrt(x * x + y * y + z * z)
    d2 = np.sqrt(x * x + y * y + (xi * d1 + z) ** 2)
    below = alpha * d2 + (1 - alpha) * (xi * d1 + z)
    return fx * x / below + cx, fy * y / below + cy


def eucm_pixel(point, alpha, beta, fx, fy, cx, cy):
    """Khomutenko, Garcia and Martinet 2016, equation 8."""
    x, y, z = point
    below = alpha * np.sqrt(beta * (x * x + y * y) + z * z) + (1 - alpha) * z
    return fx * x / below + cx, fy * y / below + cy


@pytest.mark.parametrize(
    "model, intrinsics, pixel",
    [  # as calibrations of 180 and of 120 degrees have them, and Mei's model (beta 1)
        ("ds", [-0.21, 0.59, 157.7, 157.9, 254.1, 255.6], ds_pixel),
        ("ds", [-0.05, 0.52, 380.0, 382.0, 322.0, 236.0], ds_pixel),
        ("eucm", [0.57, 1.13, 191.5, 191.4, 254.5, 256.2], eucm_pixel),
        ("eucm", [0.5, 1.0, 300.0, 300.0, 320.0, 240.0], eucm_pixel),
    ],
)
def test_lenses_of_spheres_become_the_nearest_fisheye(tmp_path, model, intrinsics, pixel):
    entry = f"cam0:\n  camera_model: {model}\n  distortion_model: none\n  distortion_coeffs: []\n"
    entry += f"  intrinsics: {intrinsics}\n  resolution: [640, 480]\n"
    (tmp_path / "camchain.yaml").write_text(entry)
    rig = read_camchain(tmp_path / "camchain.yaml")
    (camera,) = rig.cameras
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(8000, 3)) * [1, 1, 0.5]
    stated = np.array([pixel(direction, *intrinsics) for direction in directions]) + 0.5
    forward = directions[:, 2] > 0 if model == "eucm" else directions[:, 2] > -0.1 * np.linalg.norm(directions, axis=1)
    imaged = forward & ((stated > 0) & (stated < [640, 480])).all(axis=1)
    assert imaged.sum() > 200
    off = np.linalg.norm(camera.lens.project(directions[imaged]) - stated[imaged], axis=1).max()
    (note,) = rig.notes
    residual = float(re.search(r"at most ([\d.e-]+) pixels off", note)[1])
    assert note.startswith(f"cam0: {model} taken as the nearest fisheye") and off <= 1.1 * residual + 1e-6
    assert residual < 0.25


def test_lenses_of_spheres_that_are_near_to_none_are_refused(tmp_path):
    for intrinsics, message in (
        ("[-0.21, 0.59, 157.7]", "cam0: intrinsics .* must be xi, alpha, fu, fv, pu, pv of ds"),
        ("[0.9, 0.2, 150.0, 150.0, 320.0, 240.0]", "cam0: ds with xi=0.9, alpha=0.2 is up to 0.59 pixels off every"),
        ("[-0.9, 0.55, 150.0, 150.0, 320.0, 240.0]", "cam0: ds with xi=-0.9, alpha=0.55: no lens of Kannala and"),
    ):
        entry = (
            f"cam0: {{camera_model: ds, distortion_model: none, intrinsics: {intrinsics}, resolution: [640, 480]}}\n"
        )
        (tmp_path / "camchain.yaml").write_text(entry)
        with pytest.raises(ValueError, match=message):
            read_camchain(tmp_path / "camchain.yaml")
