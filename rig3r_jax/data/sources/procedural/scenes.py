"""Scenes of the procedural source: which world and rig each name stands for, and how a scene is made."""

import dataclasses
import functools

import cv2
import numpy as np

from rig3r_jax.data.frame_bytes import encode_depth, encode_mask
from rig3r_jax.data.scene import DenseDepth, Frame, Scene
from rig3r_jax.data.sources.procedural.render import render_frames
from rig3r_jax.data.sources.procedural.rigs import Rig, draw_rig, draw_rig_pool
from rig3r_jax.data.sources.procedural.sight import lit_pixels
from rig3r_jax.data.sources.procedural.source import SPLITS, Procedural
from rig3r_jax.data.sources.procedural.worlds import World, draw_world, drive

_RIGS, _UNSEEN_RIGS = len(SPLITS), len(SPLITS) + 1  # second words of the seeds, after those of the splits' worlds


@functools.lru_cache(maxsize=4)
def _rig_pool(source: Procedural) -> tuple[Rig, ...]:
    rng = np.random.default_rng([source.seed, _RIGS, 0])
    counts = source.min_cameras, source.max_cameras
    return draw_rig_pool(rng, source.fixed_rigs, *counts, source.image_size, source.layouts, source.lenses)


def rig_of(source: Procedural, split: str, index: int) -> Rig:
    """The rig that drives through a world: one of the pool in turn, or a fresh one."""
    if split != "unseen_rigs":
        pool = _rig_pool(source)
        return pool[index % len(pool)]
    rng = np.random.default_rng([source.seed, _UNSEEN_RIGS, index])
    count = int(rng.integers(source.min_cameras, source.max_cameras + 1))
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
class Drive:
    """A rig's way through a world, not yet seen by its cameras."""

    rig: Rig
    world: World
    times: np.ndarray  # (steps,) seconds
    world_from_rig: np.ndarray  # (steps, 4, 4)


def make_drive(source: Procedural, split: str, index: int) -> Drive:
    """Draws the world and drives the rig through it."""
    rig = rig_of(source, split, index)
    rng = np.random.default_rng([source.seed, SPLITS.index(split), index])
    world = draw_world(rng, duration=(source.steps - 1) * source.interval * 1.1)
    jitter = rng.uniform(-0.05, 0.05, source.steps) * source.interval
    times = np.arange(source.steps) * source.interval + jitter - jitter[0]
    return Drive(rig, world, times, drive(rng, world, times) @ rig.vehicle_from_rig)


def make_scene(source: Procedural, name: str, split: str, index: int) -> Scene:
    """Draws the world, drives the rig through it, renders all frames."""
    return seen_scene(source, name, make_drive(source, split, index))


def seen_scene(source: Procedural, name: str, driven: Drive) -> Scene:
    """What the cameras see on a drive."""
    rig, times = driven.rig, driven.times
    rig_from_camera = np.stack([camera.rig_from_camera for camera in rig.cameras])
    world_from_camera = (driven.world_from_rig[:, None] @ rig_from_camera).reshape(-1, 4, 4)
    count = len(rig.cameras)
    lenses = [camera.lens for camera in rig.cameras]
    images, depths = render_frames(
        driven.world, np.repeat(times, count), world_from_camera, lenses * len(times), source.image_size
    )
    masks = [encode_mask(~lit_pixels(lens, source.image_size)) for lens in lenses]
    frames = tuple(
        Frame(
            camera=i % count,
            time=float(times[i // count]),
            step=i // count,
            world_from_camera=world_from_camera[i],
            image=_encode(images[i], source),
            depth=encode_depth(DenseDepth(depths[i])),
            mask=masks[i % count],
        )
        for i in range(len(images))
    )
    return Scene(name=name, cameras=rig.cameras, front_camera=0, frames=frames)
