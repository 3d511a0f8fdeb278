"""Driving worlds made on the fly: rigs of cameras, exact depth, poses, calibration and times, all from one seed."""

import dataclasses
import functools
from collections.abc import Iterator

from rig3r_jax.data.scene import Scene
from rig3r_jax.data.source import Scenes, Source

SPLITS = ("train", "same_rigs", "unseen_rigs")
MAX_CAMERAS = 8
CAMERA_COUNTS = {  # that each layout of cameras on the vehicle takes
    "single": range(1, 2),
    "stereo": range(2, 3),
    "front_rear": range(2, 3),
    "side_pairs": range(3, 8, 2),
    "fan": range(3, 6),
    "surround": range(3, 9),
    "stereo_surround": range(4, 9),
}
LENSES = ("pinhole", "fisheye", "mixed")  # of the cameras; fisheye: Kannala-Brandt, mixed: both in one rig
_BOUNDS = {
    "seed": (0, 2**63 - 1), "worlds": (1, 2),
    "train_worlds": (0, 10**7), "test_worlds": (0, 10**7), "fixed_rigs": (1, 10**6),
    "min_cameras": (1, MAX_CAMERAS), "max_cameras": (1, MAX_CAMERAS), "steps": (1, 1000), "interval": (0.01, 10.0),
    "image_size": (8, 4096), "jpeg_quality": (1, 100),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Procedural(Source):
    """Options of procedural scenes; equal options give equal scenes.

    Splits: training worlds, new worlds seen by the same rigs, new worlds seen by new rigs.
    """

    seed: int = 0
    # Kind of the worlds. 1: winding roads, driven along at an even speed. 2: towns and yards, with junctions, parking,
    # braking and reversing, traffic, night and glare; cameras of a time step fire up to 40 ms apart.
    worlds: int = 1
    train_worlds: int = 2000
    test_worlds: int = 128  # in each of same_rigs and unseen_rigs
    fixed_rigs: int = 8  # shared by train and same_rigs
    min_cameras: int = 1
    max_cameras: int = MAX_CAMERAS
    layouts: tuple[str, ...] = tuple(CAMERA_COUNTS)  # of the cameras on the vehicle
    # Or fisheye: the same worlds, drives and mounts, through other lenses; or mixed, of worlds=2. Fields of view in
    # degrees: pinholes 60 to 100, fisheyes 170 to 190; of worlds=2 35 to 120, and 120 to 180.
    lenses: str = "pinhole"
    steps: int = 8
    interval: float = 0.5  # seconds between steps, but for a jitter of a tenth
    image_size: int = 64  # pixels, height and width
    image_format: str = "jpeg"  # or png
    jpeg_quality: int = 95

    needs_root = False

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        bad_counts = False
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                yield f"{name}={value} must be in {low}..{high}"
                bad_counts |= name.endswith("cameras")
        if self.image_format not in ("jpeg", "png"):
            yield f"image_format={self.image_format!r} must be 'jpeg' or 'png'"
        if self.lenses not in LENSES:
            yield f"lenses={self.lenses!r} must be one of {', '.join(LENSES)}"
        if self.lenses == "mixed" and self.worlds == 1:
            yield "lenses='mixed' goes with worlds=2; set that, or lenses to pinhole or fisheye"
        if not self.layouts or set(self.layouts) - set(CAMERA_COUNTS):
            yield f"layouts={self.layouts!r} must name some of {', '.join(CAMERA_COUNTS)}"
        elif self.min_cameras > self.max_cameras:
            yield f"min_cameras={self.min_cameras} must not exceed max_cameras={self.max_cameras}"
        elif not bad_counts:
            for count in range(self.min_cameras, self.max_cameras + 1):
                if not any(count in CAMERA_COUNTS[name] for name in self.layouts):
                    yield f"layouts={self.layouts!r}: none takes {count} cameras; change min_cameras or max_cameras"

    @property
    def VERSION(self) -> int:
        """See `Source`: worlds of the first kind are as they always were."""
        return {1: 1, 2: 2}[self.worlds]

    def splits(self) -> tuple[str, ...]:
        """Always the same."""
        return SPLITS

    def scenes(self, split: str) -> Scenes:
        """See `Source`; nothing is read, the root is ignored."""
        self.check_split(split)
        count = self.train_worlds if split == "train" else self.test_worlds
        names = [f"{split}-{index:06d}" for index in range(count)]
        return [(name, functools.partial(_make, self, name, split, index)) for index, name in enumerate(names)]


def _make(source: Procedural, name: str, split: str, index: int) -> Scene:
    from rig3r_jax.data.sources.procedural.scenes import make_scene  # renders with JAX, which options do without

    return make_scene(source, name, split, index)
