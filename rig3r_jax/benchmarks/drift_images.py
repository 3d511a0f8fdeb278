"""The images of a loop drive, for a network to see: for `rig3r bench drift --model`."""

from pathlib import Path

from rig3r_jax.data.sources.procedural.scenes import Drive, seen_scene
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.photographs import find_photographs, usable
from rig3r_jax.inference.shots import Shot, read_shots


def seen_shots(model: Model, source: Procedural, driven: Drive, folder: Path, rig: bool) -> list[Shot]:
    """Photographs of all cameras, written below `folder` and read as a user's are, with times and, where `rig`, that.
    In the order step by step, cameras in the rig's order."""
    scene, times, order = seen_scene(source, "loop", driven), {}, {}
    cameras = tuple(
        CalibratedCamera(f"camera{number}", camera.lens, camera.size, camera.rig_from_camera)
        for number, camera in enumerate(scene.cameras)
    )
    for number, frame in enumerate(scene.frames):
        name = Path(f"camera{frame.camera}") / f"{frame.step:06d}.jpg"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(frame.image)
        times[name.as_posix()], order[name.as_posix()] = frame.time, number
    _, photographs = find_photographs([folder])
    photographs = sorted(photographs, key=lambda photograph: order[photograph.name])
    knowledge = Known(RigCalibration(cameras, cameras[0].name) if rig else None, times=times)
    sizes, _ = usable(photographs, skip_bad=False)
    return read_shots(photographs, knowledge, model.input_size(list(sizes.values())), model.fill)
