"""What rigs of worlds=2 have of their own: lenses from 35 to 180 degrees, how they sit on vehicles, when they fire."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.data.sources.procedural.rigs import Rig, fisheye, pinhole
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole

_PINHOLE_DEG, _FISHEYE_DEG = (35.0, 120.0), (120.0, 180.0)  # fields of view across the image
_FISHEYES = 0.35  # share of rigs, and of cameras with a lens of their own, that have one where both occur
_OWN = 0.3  # share of cameras with a lens of their own
LONGEST_DELAY = 0.04  # seconds
_AT_ONCE = 0.3  # share of rigs whose cameras fire together
_TURNED, _TURNED_DEG = 0.6, 35.0  # share of rigs that are turned on the vehicle, and by how much at most, either side


def equip(rng: np.random.Generator, rig: Rig, image_size: int, lenses: str) -> Rig:
    """The rig with lenses, one of `source.LENSES`, most of them alike; maybe turned; cameras but the front delayed."""

    def draw() -> Lens:
        if lenses == "fisheye" or (lenses == "mixed" and rng.uniform() < _FISHEYES):
            return fisheye(rng, image_size, _FISHEYE_DEG)
        return Pinhole(pinhole(rng.uniform(*_PINHOLE_DEG), image_size))

    shared = draw()
    cameras = tuple(
        dataclasses.replace(camera, lens=draw() if rng.uniform() < _OWN else shared) for camera in rig.cameras
    )
    turn = np.radians(rng.uniform(-1, 1) * _TURNED_DEG * (rng.uniform() < _TURNED))
    turned = rigid.from_rotation_translation(Rotation.from_euler("Y", turn).as_matrix(), np.zeros(3))
    delays = np.round(rng.uniform(0, LONGEST_DELAY, len(cameras)) * (rng.uniform() >= _AT_ONCE), 4)
    return dataclasses.replace(
        rig, cameras=cameras, vehicle_from_rig=turned @ rig.vehicle_from_rig, delays=(0.0, *delays[1:].tolist())
    )
