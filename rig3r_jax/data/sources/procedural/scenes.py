"""Scenes of the procedural source: which world and rig each name stands for, and how a scene is made."""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.data.frame_bytes import encode_depth, encode_mask
from rig3r_jax.data.scene import DenseDepth, Frame, Scene
from rig3r_jax.data.sources.procedural.render import render_frames
from rig3r_jax.data.sources.procedural.rigs import Rig, draw_rig, draw_rig_pool
from rig3r_jax.data.sources.procedural.sight import lit_pixels
from rig3r_jax.data.sources.procedural.source import SPLITS, Procedural
from rig3r_jax.data.sources.procedural.streets import world as streets
from rig3r_jax.data.sources.procedural.streets.render import Shot, View, render
from rig3r_jax.data.sources.procedural.streets.rigs import equip
from rig3r_jax.data.sources.procedural.worlds import World, draw_world, drive

_RIGS, _UNSEEN_RIGS = len(SPLITS), len(SPLITS) + 1  # second words of the seeds, after those of the splits' worlds
_STREETS = 10  # second word of the seed of the first split of worlds=2


@functools.lru_cache(maxsize=4)
def _rig_pool(source: Procedural) -> tuple[Rig, ...]:
    rng = np.random.default_rng([source.seed, _RIGS, 0])
    counts = source.min_cameras, source.max_cameras
    if source.worlds == 2:
        mounted = draw_rig_pool(rng, source.fixed_rigs, *counts, source.image_size, source.layouts)
        return tuple(equip(rng, rig, source.image_size, source.lenses) for rig in mounted)
    return draw_rig_pool(rng, source.fixed_rigs, *counts, source.image_size, source.layouts, source.lenses)


def rig_of(source: Procedural, split: str, index: int) -> Rig:
    """The rig that drives through a world: one of the pool in turn, or a fresh one."""
    if split != "unseen_rigs":
        pool = _rig_pool(source)
        return pool[index % len(pool)]
    rng = np.random.default_rng([source.seed, _UNSEEN_RIGS, index])
    count = int(rng.integers(source.min_cameras, source.max_cameras + 1))
    if source.worlds == 2:
        return equip(rng, draw_rig(rng, count, source.image_size, source.layouts), source.image_size, source.lenses)
    return draw_rig(rng, count, source.image_size, source.layouts, source.lenses)


def _encode(image: np.ndarray, source: Procedural) -> bytes:
    """RGB to the bytes of an image file. JPEG keeps the full resolution of colour, which counts in small images."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if source.image_format == "jpeg":
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        settings = [cv2.IMWRITE_JPEG_QUALITY, source.jpeg_quality, *sampling]
    extension = {"jpeg": ".jpg", "png": ".png"}[source.image_format]
    _, data = cv2.imencode(extension, image[:, :, ::-1], settings)
    return data.tobytes()


@dataclasses.dataclass(frozen=True)
class Looks:
    """What a drive's cameras see: step by step, camera by camera (f frames)."""

    images: UInt8[np.ndarray, "f h w 3"]
    depths: Float[np.ndarray, "f h w"]  # metres along the ray, 0 at the sky
    moving: Bool[np.ndarray, "f h w"] | None  # pixels that show what moves; None: not known


@dataclasses.dataclass(frozen=True)
class Drive:
    """A rig's way through a world, not yet seen by its cameras. This one is of worlds=1."""

    rig: Rig
    world: World | streets.World
    times: np.ndarray  # (steps,) seconds
    world_from_rig: np.ndarray  # (steps, 4, 4)

    @property
    def camera_times(self) -> Float[np.ndarray, "steps cameras"]:
        """When each camera takes its image of each time step."""
        return np.repeat(self.times[:, None], len(self.rig.cameras), axis=1)

    @property
    def world_from_camera(self) -> Float[np.ndarray, "steps cameras 4 4"]:
        """Where each camera is at those times."""
        return self.world_from_rig[:, None] @ np.stack([camera.rig_from_camera for camera in self.rig.cameras])

    def look(self, image_size: int) -> Looks:
        """Renders all frames."""
        lenses = [camera.lens for camera in self.rig.cameras] * len(self.times)
        times, poses = self.camera_times.ravel(), self.world_from_camera.reshape(-1, 4, 4)
        return Looks(*render_frames(self.world, times, poses, lenses, image_size), None)


class StreetDrive(Drive):
    """A drive of worlds=2: cameras fire one after another, while the vehicle moves on."""

    @property
    def camera_times(self) -> Float[np.ndarray, "steps cameras"]:
        """See `Drive`."""
        return self.times[:, None] + np.array(self.rig.delays)

    @property
    def world_from_camera(self) -> Float[np.ndarray, "steps cameras 4 4"]:
        """See `Drive`."""
        vehicle_from_camera = [self.rig.vehicle_from_rig @ camera.rig_from_camera for camera in self.rig.cameras]
        return self.world.motion.world_from_vehicle(self.camera_times) @ np.stack(vehicle_from_camera)

    def look(self, image_size: int) -> Looks:
        """See `Drive`."""
        lenses = [camera.lens for camera in self.rig.cameras] * len(self.times)
        poses = self.world_from_camera.reshape(-1, 4, 4)
        views = [View(*view) for view in zip(self.camera_times.ravel().tolist(), poses, lenses, strict=True)]
        shots = list(render(self.world, views, image_size))
        images, depths, moving = (
            np.stack([getattr(shot, field.name) for shot in shots]) for field in dataclasses.fields(Shot)
        )
        return Looks(images, depths.astype(np.float16), moving)


def make_drive(source: Procedural, split: str, index: int) -> Drive:
    """Draws the world and drives the rig through it."""
    rig = rig_of(source, split, index)
    if source.worlds == 2:
        return _street_drive(source, rig, split, index)
    rng = np.random.default_rng([source.seed, SPLITS.index(split), index])
    world = draw_world(rng, duration=(source.steps - 1) * source.interval * 1.1)
    jitter = rng.uniform(-0.05, 0.05, source.steps) * source.interval
    times = np.arange(source.steps) * source.interval + jitter - jitter[0]
    return Drive(rig, world, times, drive(rng, world, times) @ rig.vehicle_from_rig)


def _street_drive(source: Procedural, rig: Rig, split: str, index: int) -> StreetDrive:
    """As `make_drive`, of worlds=2."""
    rng = np.random.default_rng([source.seed, _STREETS + SPLITS.index(split), index])
    times = np.arange(source.steps) * source.interval
    jitter = rng.uniform(-0.05, 0.05, source.steps) * source.interval
    times = times + jitter - jitter[0]
    world = streets.draw_world(rng, float(times[-1]) + max(rig.delays))
    return StreetDrive(rig, world, times, world.motion.world_from_vehicle(times) @ rig.vehicle_from_rig)


def make_scene(source: Procedural, name: str, split: str, index: int) -> Scene:
    """Draws the world, drives the rig through it, renders all frames."""
    return seen_scene(source, name, make_drive(source, split, index))


def seen_scene(source: Procedural, name: str, driven: Drive) -> Scene:
    """What the cameras see on a drive."""
    rig, count = driven.rig, len(driven.rig.cameras)
    looks, size = driven.look(source.image_size), source.image_size
    times, world_from_camera = driven.camera_times.ravel(), driven.world_from_camera.reshape(-1, 4, 4)
    outside = [~lit_pixels(camera.lens, size) for camera in rig.cameras]
    still = [encode_mask(where) for where in outside]
    frames = tuple(
        Frame(
            camera=i % count,
            time=float(times[i]),
            step=i // count,
            world_from_camera=world_from_camera[i],
            image=_encode(looks.images[i], source),
            depth=encode_depth(DenseDepth(looks.depths[i])),
            mask=still[i % count] if looks.moving is None else encode_mask(outside[i % count], looks.moving[i]),
        )
        for i in range(len(looks.images))
    )
    return Scene(name=name, cameras=rig.cameras, front_camera=0, frames=frames)
