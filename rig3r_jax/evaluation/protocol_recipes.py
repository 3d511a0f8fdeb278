"""Ready choices of source, split, options and rules: the paper's shape of samples for the data sets that it names.

24 images over cameras x times; times about 2 s apart and two samples of a drive (Rig3R, section 4), nearer where drives
are shorter. `window` is longer than any drive, so that a scene is a drive, but for KITTI-360, whose drives are minutes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rig3r_jax.evaluation.protocol import Rules


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `make-protocol NAME` fills in; nothing of it is read from data."""

    source: str
    split: str
    options: Mapping[str, Any]
    rules: Rules
    scenes: int | None = None  # of the whole split; None: not published
    counted_in: str = ""  # who says so


def _grid(cameras: int, seconds: float, samples: int = 2) -> Rules:
    return Rules(
        min_cameras=cameras,
        max_cameras=cameras,
        min_seconds=seconds,
        max_seconds=seconds,
        samples_per_scene=samples,
    )


_RING = ("front_center", "front_left", "front_right", "side_left", "side_right", "rear_left", "rear_right")


def _argoverse2(cameras: int, seconds: float) -> Recipe:
    """The paper's rigs of 1, 3, 5 and 7 cameras, the front one in the middle."""
    options = {"cameras": tuple(f"ring_{name}" for name in _RING[:cameras]), "window": 256}
    counted = "argoverse/av2-api, src/av2/datasets/sensor/splits.py"
    return Recipe("argoverse2", "val", options, _grid(cameras, seconds), 150, counted)


def _procedural(split: str) -> Recipe:
    """Larger worlds than those that the demo is trained on, each long enough for three cameras."""
    options = {"test_worlds": 32, "min_cameras": 3, "steps": 12, "image_size": 128}
    return Recipe("procedural", split, options, Rules(min_cameras=3, max_stride=2), 32, "test_worlds=32")


RECIPES = {
    "nuscenes_val": Recipe(
        "nuscenes", "val", {"window": 64}, _grid(6, 2.0), 150, "nuscenes-devkit, nuscenes/utils/splits.py"
    ),
    "waymo_val": Recipe(
        "waymo", "val", {"window": 256}, _grid(5, 2.0), 202, "CenterPoint, arXiv 2006.11275, experiments"
    ),
    "argoverse2_val": _argoverse2(7, 2.0),
    "argoverse2_val_5": _argoverse2(5, 2.0),
    "argoverse2_val_3": _argoverse2(3, 2.0),
    "argoverse2_val_1": _argoverse2(1, 0.5),
    "ddad_val": Recipe("ddad", "val", {"window": 128}, _grid(6, 1.0), 50, "TRI-ML/DDAD, README.md"),
    "kitti360_val": Recipe("kitti360", "val", {"window": 64}, _grid(4, 1.0, 1)),
    "procedural_unseen_rigs": _procedural("unseen_rigs"),
    "procedural_same_rigs": _procedural("same_rigs"),
}
