"""kapture data sets: cameras, rigs and poses in text tables, images below sensors/records_data; no depth is read.

A recording is a folder with sensors/sensors.txt. The rig of the most images is taken where there are several: a rig is
what a recording is of.
"""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut
from rig3r_jax.data.sources.recorded_rig import RecordedCamera, Recording, Shot, in_order, steps_by_time
from rig3r_jax.data.sources.recordings import RigRecordings
from rig3r_jax.formats.times import PER_SECOND, check_time_unit

_IMAGES = "sensors/records_data"


@dataclasses.dataclass(frozen=True)
class KaptureSource(RigRecordings):
    """Options of kapture data sets."""

    rig: str = ""  # id of the rig, or of the camera of none; "": the one of the most images
    time_unit: str = "us"  # of the tables, which do not say: s, ms, us, ns
    step_tolerance: float = 0.0  # seconds within which the cameras' images are one time step

    root_holds = "sensors/sensors.txt of a kapture data set, or several such folders"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        try:
            check_time_unit(self.time_unit)
        except ValueError as error:
            yield str(error)
        if self.time_unit == "auto":
            yield "time_unit='auto' must be s, ms, us or ns: whole numbers of a table do not tell"

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`."""
        return self.folders_holding("sensors/sensors.txt")

    def read(self, name: str, folder: Path) -> Recording:
        """See `RigRecordings`."""
        from rig3r_jax.formats.kapture import read_kapture  # makes lenses, whose module imports JAX

        data = read_kapture(folder)
        rig_of = {camera.name: rig for rig, calibration in data.rigs.items() for camera in calibration.cameras}
        counts = collections.Counter(rig_of[image.camera] for image in data.images)
        rig = self.rig or (counts.most_common(1)[0][0] if counts else "")
        if rig not in counts:
            raise BadRecord(f"{folder}: has no images of the rig {rig!r}; it has {dict(counts)}; change rig=")
        cameras = [
            RecordedCamera(camera.name, camera.lens, camera.size, camera.rig_from_camera)
            for camera in data.rigs[rig].cameras
        ]
        numbers = {camera.name: number for number, camera in enumerate(cameras)}
        shots, left_out, others = [], [], 0
        per_second = int(PER_SECOND[self.time_unit])
        for image in data.images:
            others += image.camera not in numbers
            if image.camera not in numbers:
                continue
            if image.world_from_camera is None:
                left_out.append(LeftOut(image.name, UNMATCHED, f"{folder}/sensors/trajectories.txt: has no pose of it"))
                continue
            seconds = image.time // per_second + image.time % per_second / per_second
            shots.append(
                Shot(numbers[image.camera], 0, seconds, folder / _IMAGES / image.name, image.world_from_camera)
            )
        if not shots:
            raise BadRecord(f"{folder}/sensors/trajectories.txt: has a pose for none of the images; restore the file")
        steps = steps_by_time([(shot.camera, shot.time) for shot in shots], self.step_tolerance)
        shots = [dataclasses.replace(shot, step=step) for shot, step in zip(shots, steps, strict=True)]
        note = f"{len(shots)} images of the rig {rig}, {len(cameras)} cameras; {others} of other rigs are not read"
        return Recording(name, tuple(cameras), in_order(shots), tuple(left_out), (note,))
