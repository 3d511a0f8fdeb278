"""scene.rrd: points and cameras for rerun's viewer, to play through the images in order of time; through rerun-sdk."""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.exports.choose import ChosenPoints
from rig3r_jax.exports.frusta import Frustum, frusta_of
from rig3r_jax.exports.job import Job
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.schema import PosedImage

if typing.TYPE_CHECKING:
    import rerun


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the recording: world/points/N and world/cameras/N of image N, on the timelines `image` and `time`.

    A pinhole is rerun's pinhole too, in whose frame images may be logged; other lenses are lines alone.
    """
    import rerun  # of the extra `rerun`

    chosen = None if job.chosen is None else job.dense
    recording = rerun.RecordingStream("rig3r_jax")
    recording.save(path)
    try:
        _log(recording, job, chosen)
        recording.flush()
    finally:
        recording.disconnect()
    return [] if chosen is None else [chosen.counted()]


def _log(recording: "rerun.RecordingStream", job: Job, chosen: ChosenPoints | None) -> None:
    import rerun

    recording.log("world", rerun.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
    images = job.reconstruction.images
    frusta = frusta_of(job.reconstruction, job.options.frustum)
    order = sorted(range(len(images)), key=lambda number: images[number].time or 0.0)
    for place, number in enumerate(order):
        recording.reset_time()  # a time stays set: an image without one would have that of the image before
        recording.set_time("image", sequence=place)
        if images[number].time is not None:
            recording.set_time("time", duration=float(images[number].time))
        _log_camera(recording, f"world/cameras/{number}", images[number], frusta[number])
        if chosen is not None:
            of_image = chosen.image == number
            points = rerun.Points3D(chosen.points_world[of_image], colors=chosen.colors[of_image])
            recording.log(f"world/points/{number}", points)


def _log_camera(recording: "rerun.RecordingStream", entity: str, image: PosedImage, frustum: Frustum) -> None:
    import rerun

    lines = [frustum.vertices_world[line] for line in frustum.lines]
    recording.log(f"{entity}/frustum", rerun.LineStrips3D(lines, colors=[frustum.color] * len(lines)))
    pose = np.asarray(image.world_from_camera, np.float64)
    recording.log(f"{entity}/view", rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    recording.log(f"{entity}/view", rerun.AnyValues(name=image.name))
    if image.lens.kind == Pinhole.kind:
        size = [image.width, image.height]
        pinhole = rerun.Pinhole(
            image_from_camera=image.lens.intrinsics, resolution=size, camera_xyz=rerun.ViewCoordinates.RDF
        )
        recording.log(f"{entity}/view", pinhole)
