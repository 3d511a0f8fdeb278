"""A loop drive as photographs, and a model that knows the truth of it but for noise: for `rig3r bench drift`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from rig3r_jax.data.sources.procedural.loop import loop_drive
from rig3r_jax.data.sources.procedural.scenes import Drive
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.shots import Shot
from rig3r_jax.schema import Estimate, Views

_UNIT = 9.0  # metres, about: the mean depth of these worlds, which is the unit of models
_GRID = 16  # points along each side
_APART = 25.0  # metres between neighbours, beyond which they see nothing in common
_AHEAD = 8.0  # metres before a camera: the middle of what it sees
_REACH = 6.0  # metres between such middles, at which views have exp(-1/2) of their likeness left
_TURN_WEIGHT = 1.5  # of the unit direction of view in the likeness
_FEATURES = 512


@dataclasses.dataclass(frozen=True)
class LoopDrive:
    """Images of all cameras at all time steps, in this order: step by step."""

    drive: Drive
    cameras: int
    world_from_camera: Float[np.ndarray, "n 4 4"]  # metres
    rig_from_camera: Float[np.ndarray, "n 4 4"]
    step: Int[np.ndarray, " n"]

    @property
    def length(self) -> float:
        """Metres of the first camera's way."""
        return float(np.linalg.norm(np.diff(self.world_from_camera[:: self.cameras, :3, 3], axis=0), axis=1).sum())


def source_of(images: int, cameras: int, interval: float, seed: int, image_size: int = 64) -> Procedural:
    """The procedural source whose drives have about so many images."""
    layouts = ({1: "single", 2: "stereo"}.get(cameras, "surround"),)
    return Procedural(
        seed=seed, steps=-(-images // cameras), interval=interval, min_cameras=cameras, max_cameras=cameras,
        layouts=layouts, image_size=image_size,
    )  # fmt: skip


def make_loop(source: Procedural, laps: float) -> LoopDrive:
    """A drive of `laps` laps. ValueError where laps become too short."""
    driven = loop_drive(source, laps)
    places = np.stack([camera.rig_from_camera for camera in driven.rig.cameras])
    count, steps = len(places), len(driven.times)
    return LoopDrive(
        driven,
        count,
        (driven.world_from_rig[:, None] @ places).reshape(-1, 4, 4),
        np.tile(places, (steps, 1, 1)),
        np.repeat(np.arange(steps), count),
    )


def numbered_shots(loop: LoopDrive, side: int) -> list[Shot]:
    """Photographs whose first pixel is their number; the rig's places are known, lenses and poses are not."""
    whole, shots = np.ones((side, side), bool), []
    for number, step in enumerate(loop.step.tolist()):
        camera = loop.drive.rig.cameras[number % loop.cameras].name if loop.cameras > 1 else None
        name = f"{camera or 'images'}/{step:06d}.png"
        seen = np.zeros((side, side, 3), np.uint8)
        seen[0, 0] = number >> 16, number >> 8 & 255, number & 255
        photograph = Photograph(Path(name), name, camera, step if camera else None)
        time = float(loop.drive.times[step])
        shots.append(Shot(photograph, side, side, seen, whole, whole, None, loop.rig_from_camera[number], time, None))
    return shots


@dataclasses.dataclass(frozen=True)
class NoisyTruth:
    """True cameras of each pass in a unit of its own, with errors of the covariance that it states. See `Model`.

    Its world is the first image's camera, which has no error. Of images that nothing of the others can be seen from,
    as those of a wrong loop, it says anything, as sure as of the others.

    sigma: of translations along each axis, in units of a pass (about 9 m).
    sigma_deg: of rotations about each axis.
    """

    loop: LoopDrive
    sigma: float
    sigma_deg: float
    seed: int

    name, licence, notes, usual_views, most_views = "truth with noise", None, (), 24, None
    takes_rig, fill = False, 0

    @property
    def digest(self) -> str:
        """See `Model`."""
        return f"{self.name} {self.sigma} {self.sigma_deg} {self.seed}"

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """See `Model`."""
        return 64, 64

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """See `Model`."""
        return views * _GRID * _GRID * 40

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """See `Model`; the same images have the same errors in every pass."""
        numbers = _numbers(views.images)
        rng = np.random.default_rng([self.seed, *numbers.tolist()])
        unit = _UNIT * float(np.exp(rng.normal(scale=0.3)))
        seen_from = _misplaced(self.loop.world_from_camera[numbers], rng)
        poses = rigid.invert(seen_from[0]) @ seen_from
        poses[:, :3, 3] /= unit
        sigmas = np.repeat([self.sigma, np.radians(self.sigma_deg)], 3)
        errors = rng.normal(size=(len(numbers), 6)) * sigmas
        errors[0] = 0.0
        moved = rigid.from_rotation_translation(Rotation.from_rotvec(errors[:, 3:]).as_matrix(), errors[:, :3])
        poses = poses @ moved
        lens = Pinhole(np.array([[32.0, 0, 32], [0, 32.0, 32], [0, 0, 1]]))
        pixels = np.stack(np.meshgrid(*2 * [(np.arange(_GRID) + 0.5) * 64 / _GRID]), axis=-1)
        # A surface of its own before each image, the same in all passes, seen 2% too near or too far in each.
        depth = np.stack([np.random.default_rng([self.seed, n]).uniform(4, 20, (_GRID, _GRID)) for n in numbers])
        depth *= np.exp(rng.normal(scale=0.02, size=(len(numbers), 1, 1))) / unit
        camera = depth[..., None] * lens.rays(pixels)
        points = np.einsum("vij,vhwj->vhwi", poses[:, :3, :3], camera) + poses[:, None, None, :3, 3]
        covariance = np.tile(np.diag(sigmas**2), (len(numbers), 1, 1))
        covariance[0] = 0.0
        used = tuple(stated or lens for stated in lenses)
        return Estimate(poses, used, points, 1.0 + 1.0 / depth, covariance=covariance)

    def describe(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """Random Fourier features (Rahimi and Recht 2007) of what a camera looks at and from where, with noise: their
        products fall as views overlap less."""
        world_from_camera = self.loop.world_from_camera[_numbers(images)]
        forward = world_from_camera[:, :3, 2]
        middles = (world_from_camera[:, :3, 3] + _AHEAD * forward) / _REACH
        place = np.concatenate([middles, _TURN_WEIGHT * forward], axis=-1)
        rng = np.random.default_rng([self.seed, 1])
        phases = place @ rng.normal(size=(place.shape[1], _FEATURES)) + rng.uniform(0, 2 * np.pi, _FEATURES)
        noise = np.random.default_rng([self.seed, *_numbers(images).tolist()]).normal(scale=0.3, size=phases.shape)
        features = np.cos(phases) + noise
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def _numbers(images: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, " n"]:
    return images[:, 0, 0].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _misplaced(world_from_camera: Float[np.ndarray, "n 4 4"], rng: np.random.Generator) -> Float[np.ndarray, "n 4 4"]:
    """As they are, but for groups apart from that of the first one: these are anywhere."""
    centers = world_from_camera[:, :3, 3]
    count, group = connected_components(cdist(centers, centers) < _APART)
    moved = world_from_camera.copy()
    for other in set(range(count)) - {group[0]}:
        wrong = rigid.from_rotation_translation(Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3) * 9)
        middle = np.eye(4)
        middle[:3, 3] = centers[group == other].mean(axis=0)
        to_first = np.eye(4)
        to_first[:3, 3] = centers[0]
        moved[group == other] = to_first @ wrong @ rigid.invert(middle) @ moved[group == other]
    return moved
