"""Hilti SLAM Challenge 2022 as images: five fisheyes in four directions, poses of the IMU, no depth.

A recording holds images/<n>.jpg, of which number n is of camera n mod 5 at time step n div 5; Kalibr's chains
calibration/*cam0-1-camchain*.yaml, *cam2-camchain*.yaml and so on, all with T_cam_imu; and lidar/fastlio2_odom.txt, a
row of TUM per time step, world_from_imu.
"""

import dataclasses
import re
from pathlib import Path

from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut
from rig3r_jax.data.sources.recorded_rig import RecordedCamera, Recording, Shot, in_order
from rig3r_jax.data.sources.recordings import RigRecordings
from rig3r_jax.formats import tum

_CHAIN = re.compile(r"cam(\d+)(?:-(\d+))?-camchain")


@dataclasses.dataclass(frozen=True)
class Hilti(RigRecordings):
    """Options of Hilti's recordings."""

    poses: str = "lidar/fastlio2_odom.txt"  # below the recording

    requires = ("yaml",)
    root_holds = "images/<n>.jpg, calibration/ and lidar/ of a recording, or such recordings"

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`."""
        return self.folders_holding("calibration")

    def read(self, name: str, folder: Path) -> Recording:
        """See `RigRecordings`."""
        cameras, notes = _cameras(folder / "calibration")
        trajectory = tum.read_trajectory(folder / self.poses)
        images = {int(path.stem): path for path in (folder / "images").glob("*") if path.stem.isdigit()}
        if not images:
            raise BadRecord(f"{folder / 'images'}: holds no image named by its number; restore the files")
        shots, left_out = [], []
        for number, path in sorted(images.items()):
            step, camera = divmod(number, len(cameras))
            if step >= len(trajectory.times):
                left_out.append(
                    LeftOut(path.name, UNMATCHED, f"{folder / self.poses}: has no row {step}, of {path.name}")
                )
                continue
            pose = trajectory.world_from_camera[step] @ cameras[camera].rig_from_camera
            shots.append(Shot(camera, step, float(trajectory.times[step]), path, pose))
        if not shots:
            raise BadRecord(f"{folder / self.poses}: has {len(trajectory.times)} rows, none of them for an image")
        note = f"{len(shots)} images of {len(cameras)} cameras; poses of {self.poses}, a row per time step; no depth"
        return Recording(name, cameras, in_order(shots), tuple(left_out), (note, *notes))


def _cameras(folder: Path) -> tuple[tuple[RecordedCamera, ...], list[str]]:
    """Of all chains, by number, and notes; each file counts its own from cam0, its name says which they are."""
    from rig3r_jax.formats.kalibr import read_camchain  # makes lenses, whose module imports JAX

    cameras: dict[int, RecordedCamera] = {}
    notes: list[str] = []
    for path in sorted(folder.glob("*camchain*.yaml")):
        match, rig = _CHAIN.search(path.name), read_camchain(path)
        numbers = [int(number) for number in match.groups() if number] if match else []
        if len(numbers) != len(rig.cameras) or "IMU" not in rig.frame:
            raise BadRecord(
                f"{path}: has {len(rig.cameras)} cameras by {rig.frame}; its name must number as many, such as "
                "cam0-1-camchain, and each have T_cam_imu"
            )
        notes += [f"{path}, {note}" for note in rig.notes]
        for number, camera in zip(numbers, rig.cameras, strict=True):
            cameras[number] = RecordedCamera(f"cam{number}", camera.lens, camera.size, camera.rig_from_camera)
    if sorted(cameras) != list(range(len(cameras))) or not cameras:
        raise BadRecord(f"{folder}: has the cameras {sorted(cameras)}, must have all from 0 on; restore the files")
    return tuple(cameras[number] for number in sorted(cameras)), notes
