"""The calibration of a folder: which file has it, and its cameras by the folders of their images."""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.kalibr import read_camchain
from rig3r_jax.formats.rig_config import read_rig_config

FILES = (
    "rig_config.json",
    "camchain*.yaml",
    "*camchain*.yaml",
    "*camchain*.yml",
)  # patterns, the first that fits counts


def find_calibration(folder: Path, choice: str) -> Path | None:
    """The file of the calibration: `choice` below the folder, or the first of FILES; None for none.

    BadRecord where `choice` is no file, or where several chains of Kalibr lie there.
    """
    if choice:
        if not (folder / choice).is_file():
            raise BadRecord(f"{folder / choice}: there is no such file; correct calibration=")
        return folder / choice
    for pattern in FILES:
        if matches := sorted(folder.glob(pattern)):
            if len(matches) > 1:
                names = ", ".join(path.name for path in matches)
                raise BadRecord(f"{folder}: has several calibrations, {names}; choose one by calibration=FILE")
            return matches[0]
    return None


def read_calibration(path: Path) -> RigCalibration:
    """A rig_config.json or a camchain.yaml. ValueError naming file, value, rule and remedy."""
    if path.suffix in (".yaml", ".yml"):
        return read_camchain(path)
    rigs = read_rig_config(path)
    if len(rigs) > 1:
        raise BadRecord(
            f"{path}: has {len(rigs)} rigs; keep one, and give the images of each rig a folder of their own"
        )
    return rigs[0]


def fitted(path: Path, rig: RigCalibration, cameras: Sequence[str]) -> dict[str, CalibratedCamera]:
    """The calibration's cameras by the cameras of the images. BadRecord where one of the images has none.

    The only camera of a calibration is that of the only folder of images, whatever its name.
    """
    if len(rig.cameras) == 1 and len(cameras) == 1:
        return {cameras[0]: rig.cameras[0]}
    by_name = {camera.name: camera for camera in rig.cameras}
    if missing := [name for name in cameras if name not in by_name]:
        raise BadRecord(
            f"{path}: calibrates {', '.join(by_name)}, but there are images of {', '.join(missing)}; name the folders "
            "in images/ as the calibration names its cameras"
        )
    return {name: by_name[name] for name in cameras}
