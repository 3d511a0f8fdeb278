"""A folder of your own: images of any rig, with a calibration and poses in the files that tools write.

    images/<camera>/<name>.jpg       equal names are one time step; or flat, for one camera
    rig_config.json | camchain.yaml  lenses, and where cameras sit
    poses.txt | poses/<camera>.txt | poses.csv | transforms.json | sparse/0 | cameras.json
    times.txt                        rows of time and image, unless names are times
    depth/<camera>/<name>.png        or .exr, .npy; lidar/<name>.bin and the like
    masks/<camera>/<name>.png

The root is one such folder, or holds several. docs/your_rig.md has every file in a line.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.data.depth_files import AXIS, RAY
from rig3r_jax.data.sources.recorded_rig import Recording
from rig3r_jax.data.sources.recordings import RigRecordings
from rig3r_jax.data.sources.rgbd import depth_problems
from rig3r_jax.formats.times import AUTO, check_time_unit

TIME_SOURCES = (AUTO, "file", "names", "exif", "none")
HIDES = (AUTO, "black", "white")
LIDAR_FRAMES = (AUTO, "lidar", "rig", "world")


@dataclasses.dataclass(frozen=True)
class Folder(RigRecordings):
    """Options of a folder of your own; what they do not say is found by the files that are there."""

    images: str = "images"  # folder of the images, below that of the recording
    calibration: str = ""  # file, below the recording's folder; "": the first of rig_config.json, *camchain*.yaml
    poses: str = ""  # file or folder; "": the first that there is
    metres: float = 1.0  # per unit of the poses: models of images alone have no scale
    times: str = AUTO  # where times of images are from: file (times.txt), names, exif, none
    time_unit: str = AUTO  # of numbers: s, ms, us, ns
    interval: float = 0.1  # seconds between time steps where nothing tells their times
    step_tolerance: float = 0.02  # seconds within which images of cameras that share no names are one time step
    longest_gap: float = 0.2  # seconds between two poses between which others are interpolated
    depth: str = "depth"  # folder of the depth images
    masks: str = "masks"  # folder of the masks
    mask_hides: str = AUTO  # what a mask hides: black, or white and grey; auto: black where it is named <image>.png
    depth_scale: float = 1000.0  # what whole numbers of depth images hold for 1 metre
    depth_kind: str = AXIS  # axis: depth along the camera's axis; ray: distance along the pixel's ray
    plausible_depth: tuple[float, float] = (0.2, 200.0)  # metres; a recording with another median depth is bad
    lidar_frame: str = AUTO  # of the points: lidar, rig, world; auto: lidar, by the files beside
    lidar_columns: int = 4  # float32 numbers per point of .bin files
    point_error: float = 2.0  # pixels; points of a COLMAP model with a larger mean error are no depth
    point_views: int = 3  # images that must show such a point

    root_holds = (
        "images/<camera>/ (or another folder, named by images=), a calibration and poses, or several such folders "
        "(docs/your_rig.md)"
    )

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        yield from depth_problems(self.depth_scale, self.plausible_depth)
        choices = {"times": TIME_SOURCES, "depth_kind": (AXIS, RAY), "lidar_frame": LIDAR_FRAMES, "mask_hides": HIDES}
        for key, words in choices.items():
            if getattr(self, key) not in words:
                yield f"{key}={getattr(self, key)!r} must be one of {', '.join(words)}"
        for key in ("metres", "interval", "longest_gap", "point_error"):
            if not 0 < getattr(self, key) < math.inf:
                yield f"{key}={getattr(self, key)} must be a positive number"
        for key, low in (("step_tolerance", 0), ("lidar_columns", 3), ("point_views", 1)):
            if not low <= getattr(self, key) < math.inf:
                yield f"{key}={getattr(self, key)} must be at least {low}"
        try:
            check_time_unit(self.time_unit)
        except ValueError as error:
            yield str(error)

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`: the root, or the folders in it that hold images."""
        return self.folders_holding(self.images)

    def read(self, name: str, folder: Path) -> Recording:
        """See `RigRecordings`."""
        from rig3r_jax.data.sources.folder.recording import read_recording  # makes lenses, whose module imports JAX

        return read_recording(self, name, folder)
