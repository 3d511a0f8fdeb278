"""What a user knows of photographs beside their pixels."""

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration

METRE, SCENE = "metre", "scene"


def _nothing() -> typing.Any:
    return dataclasses.field(default_factory=dict)


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Known:
    """Every field is of any subset of the images, by their names; what is not there is not known."""

    rig: RigCalibration | None = None  # its cameras by the folders of their images; lenses of the upright originals
    lenses: Mapping[str, CalibratedCamera] = _nothing()  # and the size that it is for; of the upright original
    times: Mapping[str, float] = _nothing()  # seconds, of one clock
    world_from_camera: Mapping[str, Float[np.ndarray, "4 4"]] = _nothing()  # one world; unit is `pose_unit`
    # Image files, or arrays, of the size of the upright originals; black (0, false): ignored.
    masks: Mapping[str, Path | Bool[np.ndarray, "h w"]] = _nothing()
    scale: float | None = None  # metres over the unit of the first pass, which lengths are in without it
    pose_unit: str = METRE  # or SCENE: lengths of the poses are metres only up to one factor

    def __post_init__(self):
        if self.pose_unit not in (METRE, SCENE):
            raise ValueError(f"pose_unit={self.pose_unit!r} must be {METRE} or {SCENE}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale={self.scale} must be a positive number: metres over lengths without it")
