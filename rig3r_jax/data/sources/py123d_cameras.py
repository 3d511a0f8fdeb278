"""Cameras and images of py123d logs: lenses from a file's metadata, images from its cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rig3r_jax.data.image_bytes import read_image, usable_size
from rig3r_jax.data.scene import BadRecord, RigCamera
from rig3r_jax.data.sources.py123d_tables import LogTable, se3
from rig3r_jax.formats.text import with_slashes

# A log keeps the principal point of its data set, most of which have the centre of the first pixel at 0. Of these the
# left border of the first pixel is at 0.
_BORDER_AT_ZERO = ("wod-perception", "wod_perception")
_FTHETA_WITHIN = 0.25  # pixels that a Kannala-Brandt lens may be off an f-theta one
_FTHETA_ANGLES = 2000


def camera_of(table: LogTable, dataset: str) -> RigCamera:
    """The camera of a file, in the frame of the vehicle's IMU. BadRecord for a lens that there is not."""
    fields, where = table.metadata, f"{table.path}: metadata"
    models = {"pinhole": _pinhole, "fisheye_mei": _unified, "ftheta": _ftheta}
    model = fields.get("camera_model")
    if model not in models:
        raise BadRecord(f"{where}: camera_model {model!r} is not one of {', '.join(models)}; leave it out of cameras=")
    try:
        size = int(fields["height"]), int(fields["width"])
        lens = models[model](fields, 0.0 if dataset in _BORDER_AT_ZERO else 0.5, where)
        imu_from_camera = se3(fields["camera_to_imu_se3"], f"{where}: camera_to_imu_se3")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{where}: lacks what a {model} camera has ({error!r}); restore the file") from error
    return RigCamera(name_of(table.key), lens, size, imu_from_camera)


def name_of(key: str) -> str:
    """A camera's name, of its modality camera.NAME."""
    return key.partition(".")[2]


def _pinhole(fields: Mapping[str, Any], corner: float, where: str):
    from rig3r_jax.geometry.camera import Brown, Pinhole  # imports JAX: not where options are read

    fx, fy, cx, cy, skew = map(float, fields["intrinsics"])
    intrinsics = np.array([[fx, skew, cx + corner], [0, fy, cy + corner], [0, 0, 1]])
    distortion = fields["distortion"]
    if fields["is_undistorted"] or distortion is None or not any(distortion):
        return Pinhole(intrinsics)
    return Brown(intrinsics, np.array(distortion, np.float64))  # k1 k2 p1 p2 k3


def _unified(fields: Mapping[str, Any], corner: float, where: str):
    from rig3r_jax.geometry.camera import Unified  # imports JAX: not where options are read

    gamma_u, gamma_v, centre_u, centre_v = map(float, fields["projection"])
    intrinsics = np.array([[gamma_u, 0, centre_u + corner], [0, gamma_v, centre_v + corner], [0, 0, 1]])
    distortion = [0.0] * 4 if fields["distortion"] is None else fields["distortion"]
    return Unified(intrinsics, np.array([fields["mirror_parameter"], *distortion], np.float64))


def _ftheta(fields: Mapping[str, Any], corner: float, where: str):
    """The Kannala-Brandt lens that is nearest to an f-theta one, whose pixels from the centre are a polynomial of the
    angle from the axis, over all that the image shows. BadRecord where it is off by too much."""
    from rig3r_jax.geometry.camera import Fisheye  # imports JAX: not where options are read

    centre_u, centre_v, *numbers = map(float, fields["intrinsics"])
    forward, height, width = np.polynomial.Polynomial(numbers[:6]), fields["height"], fields["width"]
    angles = np.linspace(0, np.pi, _FTHETA_ANGLES)
    farthest = np.hypot(max(centre_u, width - centre_u), max(centre_v, height - centre_v))
    imaged = angles[: 1 + int(np.argmax(np.append(forward(angles) > farthest, True)))]
    odd = imaged[:, None] ** np.arange(1, 10, 2)
    focal, *coefficients = np.linalg.lstsq(odd, forward(imaged), rcond=None)[0]
    off = np.abs(odd @ [focal, *coefficients] - forward(imaged)).max()
    if not off <= _FTHETA_WITHIN:
        raise BadRecord(
            f"{where}: no Kannala-Brandt lens is within {_FTHETA_WITHIN} pixels of its f-theta lens (the nearest is "
            f"off by {off:.3g}); leave the camera out of cameras="
        )
    intrinsics = np.array([[focal, 0, centre_u + corner], [0, focal, centre_v + corner], [0, 0, 1]])
    return Fisheye(intrinsics, np.array(coefficients) / focal)


def image_of(table: LogTable, row: int, sensors: str) -> bytes:
    """An encoded image, of which a cell holds the bytes, a path below `sensors`, or its number in a video beside."""
    data, where = table.cell("data", row), f"{table.path}, row {row}"
    if isinstance(data, bytes):
        try:
            usable_size(data)
        except BadRecord as error:
            raise BadRecord(f"{where}: {error}") from error
        return data
    if isinstance(data, str):
        if not sensors:
            raise BadRecord(f"{where}: its image is the file {data} of the data set; set sensors= to that one's folder")
        return read_image(Path(sensors) / with_slashes(data))[0]
    if isinstance(data, int):
        return _video_image(table.path.with_suffix(".mp4"), data)
    raise BadRecord(f"{where}: has no image; restore the file")


def _video_image(path: Path, number: int) -> bytes:
    """An image of a video as PNG."""
    import cv2

    video = cv2.VideoCapture(str(path))
    video.set(cv2.CAP_PROP_POS_FRAMES, number)
    at = video.get(cv2.CAP_PROP_POS_FRAMES)
    read, pixels = video.read()
    video.release()
    if not read or at != number:
        raise BadRecord(f"{path}: image {number} cannot be read; restore the video")
    return cv2.imencode(".png", pixels)[1].tobytes()


def front_of(present: Sequence[str], front: str, where: str) -> str:
    """The camera whose frame is the rig's: `front`, or, of "", else the first of the library's front cameras."""
    fronts = ("pcam_f0", "pcam_stereo_l", "ftcam_f0")
    front = front or next((name for name in fronts if name in present), "")
    if front not in present:
        raise BadRecord(f"{where}: has no camera {front or ' or '.join(fronts)}; it has {list(present)}; set front=")
    return front
