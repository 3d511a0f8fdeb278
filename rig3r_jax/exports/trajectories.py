"""Trajectories of every physical camera, and of the rig where there is one: TUM's files and KITTI's.

Rows are world_from_camera (of the rig world_from_rig), by time, else in the order of the images; the world is the
reconstruction's, so that those of all cameras lie together (KITTI's own begin at the identity).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.exports.job import Job
from rig3r_jax.exports.rig import file_names, moments, rig_of
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.kitti_poses import write_poses
from rig3r_jax.formats.tum import write_trajectory
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import PosedImage, Reconstruction

_NAMED = 3  # trajectories of a note


@dataclasses.dataclass(frozen=True)
class _Track:
    """A trajectory; `times` None where an image of it has none."""

    name: str
    times: Float[np.ndarray, " n"] | None  # seconds
    world_from_body: Float[np.ndarray, "n 4 4"]


def write_tum(job: Job, folder: Path) -> Sequence[str]:
    """NAME.tum each; where times are not known, an image's number stands for its seconds."""
    tracks = _tracks(job.reconstruction)
    for track, name in zip(tracks, file_names([track.name for track in tracks]), strict=True):
        times = np.arange(len(track.world_from_body), dtype=np.float64) if track.times is None else track.times
        write_trajectory(folder / f"{name}.tum", times, track.world_from_body)
    untimed = [track.name for track in tracks if track.times is None]
    if not untimed:
        return []
    whose = "" if len(untimed) == len(tracks) else f" of {', '.join(untimed[:_NAMED])}"
    more = f" and {len(untimed) - _NAMED} more" if whose and len(untimed) > _NAMED else ""
    return [f"times{whose}{more} are not known: numbers 0, 1, .. stand for seconds"]


def write_kitti(job: Job, folder: Path) -> Sequence[str]:
    """NAME.txt each, and NAME.times.txt, seconds, where times are known."""
    tracks = _tracks(job.reconstruction)
    for track, name in zip(tracks, file_names([track.name for track in tracks]), strict=True):
        write_poses(folder / f"{name}.txt", track.world_from_body)
        if track.times is not None:
            lines = [f"{float(time)!r}\n" for time in track.times]
            write_atomically(folder / f"{name}.times.txt", "".join(lines).encode())
    return []


def _tracks(reconstruction: Reconstruction) -> list[_Track]:
    tracks, rig = [], rig_of(reconstruction)
    for camera in reconstruction.cameras:
        if images := [image for image in reconstruction.images if image.camera == camera.id]:
            tracks.append(_track(camera.name, images))
    if images := [image for image in reconstruction.images if image.camera is None]:
        tracks.append(_track("images", images))
    if rig is not None:
        order = [camera.id for camera in (rig.reference, *rig.cameras)]
        images, places = [], []
        for numbers in moments(reconstruction, rig):
            taken = [reconstruction.images[number] for number in numbers]
            images.append(min(taken, key=lambda image: order.index(image.camera)))
            places.append(reconstruction.camera_of(images[-1]).rig_from_camera)
        if images:
            tracks.append(_track("rig", images, np.stack(places)))
    return tracks


def _track(
    name: str, images: Sequence[PosedImage], body_from_camera: Float[np.ndarray, "n 4 4"] | None = None
) -> _Track:
    poses = rigid.nearest_rigid(np.stack([image.world_from_camera for image in images]).astype(np.float64))
    if body_from_camera is not None:
        poses = poses @ rigid.invert(rigid.nearest_rigid(body_from_camera))
    if any(image.time is None for image in images):
        return _Track(name, None, poses)
    times = np.array([image.time for image in images], np.float64)
    order = np.argsort(times, kind="stable")
    return _Track(name, times[order], poses[order])
