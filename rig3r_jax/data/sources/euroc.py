"""EuRoC MAV: two cameras and an IMU on a drone, poses of the body at 200 Hz, no depth.

A recording holds mav0/cam0, mav0/cam1, each with sensor.yaml, data.csv and data/<ns>.png, and the truth in
mav0/state_groundtruth_estimate0/data.csv. Without it poses are not known (see `Frame`): there is something to
reconstruct, nothing to train on.
"""

import dataclasses
from pathlib import Path

import numpy as np

from rig3r_jax.data.scene import UNKNOWN_POSE, UNMATCHED, BadRecord, LeftOut
from rig3r_jax.data.sources.recorded_rig import RecordedCamera, Recording, Shot, in_order, steps_by_time
from rig3r_jax.data.sources.recordings import RigRecordings
from rig3r_jax.data.trajectory import poses_at
from rig3r_jax.formats.times import AUTO

_TRUTHS = ("state_groundtruth_estimate0/data.csv", "mocap0/data.csv", "vicon0/data.csv")


@dataclasses.dataclass(frozen=True)
class Euroc(RigRecordings):
    """Options of EuRoC's recordings, and of others in their layout."""

    poses: str = ""  # file of the body's poses, below the recording or absolute; "": the truth that lies in mav0
    longest_gap: float = 0.1  # seconds between two poses between which others are interpolated
    step_tolerance: float = 0.002  # seconds within which the cameras' images are one time step

    requires = ("yaml",)
    root_holds = "mav0/cam0 and mav0/cam1, or recordings that do"

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`."""
        return self.folders_holding("mav0")

    def read(self, name: str, folder: Path) -> Recording:
        """See `RigRecordings`."""
        from rig3r_jax.formats.kalibr import read_sensor_yaml  # make lenses, whose module imports JAX
        from rig3r_jax.formats.pose_csv import read_pose_table

        sensors = [path / "sensor.yaml" for path in sorted((folder / "mav0").glob("cam*")) if path.is_dir()]
        if not sensors:
            raise BadRecord(f"{folder / 'mav0'}: has no cam0/sensor.yaml; restore the files")
        truth = self._truth(folder)
        table = read_pose_table(truth) if truth else None
        cameras, shots, left_out, notes = [], [], [], []
        for number, sensor in enumerate(sensors):
            camera = read_sensor_yaml(sensor, sensor.parent.name)
            cameras.append(RecordedCamera(camera.name, camera.lens, camera.size, camera.rig_from_camera))
            notes += [f"{sensor}: {camera.note}"] if camera.note else []
            listed, absent = _images(sensor.parent)
            left_out += [LeftOut(path.name, UNMATCHED, f"{path}: is listed in data.csv, absent") for path in absent]
            times = np.array([time for time, _ in listed])
            poses, has_pose = UNKNOWN_POSE[None].repeat(len(times), axis=0), np.ones(len(times), bool)
            if table:
                poses, has_pose = poses_at(times, table.times, table.world_from_body, self.longest_gap)
            for (time, path), pose, posed in zip(listed, poses, has_pose, strict=True):
                if posed:
                    shots.append(Shot(number, 0, time, path, pose @ camera.rig_from_camera))
                else:
                    left_out.append(LeftOut(path.name, UNMATCHED, f"{truth}: has no pose near the time of {path}"))
        if not shots and not table:
            raise BadRecord(f"{folder / 'mav0'}: none of the images that are listed is there; restore the files")
        if not shots:
            span = f"{table.times.min():.3f} to {table.times.max():.3f} s"
            raise BadRecord(f"{truth}: has a pose for none of the images; its times are {span}")
        steps = steps_by_time([(shot.camera, shot.time) for shot in shots], self.step_tolerance)
        shots = [dataclasses.replace(shot, step=step) for shot, step in zip(shots, steps, strict=True)]
        from_truth = f"{len(table.times)} poses of {truth}" if table else f"no poses: {folder / 'mav0'} holds no truth"
        note = f"{len(shots)} images of {len(cameras)} cameras; {from_truth}; no depth"
        return Recording(name, tuple(cameras), in_order(shots), tuple(left_out), (note, *notes))

    def _truth(self, folder: Path) -> Path | None:
        """The file of the body's poses; None where there is none. One that `poses` names must be there."""
        if self.poses:
            return folder / self.poses
        return next((path for name in _TRUTHS if (path := folder / "mav0" / name).is_file()), None)


def _images(folder: Path) -> tuple[list[tuple[float, Path]], list[Path]]:
    """(seconds, file) of the images that data.csv lists, or of those that are there without it; and absent ones."""
    from rig3r_jax.formats import tum
    from rig3r_jax.formats.times import times_of_names

    data = folder / "data"
    if (folder / "data.csv").is_file():
        table = tum.read_file_list(folder / "data.csv", time_unit="ns")
        listed = [(float(time), data / file) for time, file in zip(table.times, table.files, strict=True)]
    else:
        files = sorted(path for path in data.glob("*") if path.suffix in (".png", ".jpg"))
        seconds_and_unit = times_of_names([path.stem for path in files], AUTO, str(data))
        if not seconds_and_unit:
            raise BadRecord(f"{folder}: has no data.csv, and names of {data} are no times; restore the file")
        listed = list(zip(seconds_and_unit[0].tolist(), files, strict=True))
    return [entry for entry in listed if entry[1].exists()], [path for _, path in listed if not path.exists()]
