"""rig_config.json of COLMAP: the cameras of the rig by the folders of their images."""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.exports.job import CannotHold, Job
from rig3r_jax.exports.rig import folders_of, rig_of
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.colmap_lenses import colmap_of_lens
from rig3r_jax.formats.rig_config import write_rig_config


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file; CannotHold where no camera has a place in a rig or COLMAP has no model of a lens."""
    rig = rig_of(job.reconstruction)
    if rig is None:
        raise CannotHold("no camera has a place in a rig")
    folders, notes = folders_of(job.reconstruction), []
    prefixes = [folders.get(camera.id, camera.name) for camera in rig.cameras]
    others = [folder for camera, folder in folders.items() if camera not in {placed.id for placed in rig.cameras}]
    if not _tell_apart([*prefixes, *others]):
        prefixes = [camera.name for camera in rig.cameras]
        notes.append("image_prefix are the names of the cameras: their images are in no folders of their own")
    if rig.is_moved:
        notes.append(f"the rig's frame is that of camera {rig.reference.name}: COLMAP's is always a camera's")
    if job.reconstruction.length_unit != "metre":
        notes.append("translations are in units of the scene, not metres")
    cameras = []
    for camera, prefix in zip(rig.cameras, prefixes, strict=True):
        try:
            if camera.lens is not None:
                colmap_of_lens(camera.lens)
        except ValueError as error:
            raise CannotHold(f"camera {camera.name}: {error}") from error
        cameras.append(CalibratedCamera(prefix, camera.lens, None, rig.reference_from_camera(camera)))
    write_rig_config(path, RigCalibration(tuple(cameras), f"the camera {rig.reference.name}"))
    return notes


def _tell_apart(prefixes: Sequence[str]) -> bool:
    """Whether each is a folder that is, or lies in, none of the others."""
    paths = [f"{prefix}/" for prefix in prefixes]
    return all(prefixes) and not any(
        i != j and one.startswith(other) for i, one in enumerate(paths) for j, other in enumerate(paths)
    )
