"""Scenes of the procedural source: which world and rig each name stands for, and how a scene is made."""

import dataclasses
import functools
from collections.abc import Callable

import cv2
import numpy as np

from rig3r_jax.data.scene import DenseDepth, Frame, Scene, encode_depth
from rig3r_jax.data.sources.procedural.render import render_frames
from rig3r_jax.data.sources.procedural.rigs import LAYOUTS, MAX_CAMERAS, Rig, draw_rig, draw_rig_pool
from rig3r_jax.data.sources.procedural.worlds import draw_world, drive

SPLITS = ("train", "same_rigs", "unseen_rigs")
_RIGS, _UNSEEN_RIGS = len(SPLITS), len(SPLITS) + 1  # second words of the seeds, after those of the splits' worlds


@dataclasses.dataclass(frozen=True)
class Options:
    """What makes a data set of procedural scenes; equal options give equal scenes."""

    seed: int = 0
    train_worlds: int = 2000
    test_worlds: int = 128  # in each of same_rigs and unseen_rigs
    fixed_rigs: int = 8  # shared by train and same_rigs
    min_cameras: int = 1
    max_cameras: int = MAX_CAMERAS
    layouts: tuple[str, ...] = tuple(LAYOUTS)  # of the cameras on the vehicle
    steps: int = 8
    interval: float = 0.5  # seconds between steps, but for a jitter of a tenth
    image_size: int = 64  # pixels, height and width
    image_format: str = "jpeg"  # or png
    jpeg_quality: int = 95


def _options(given: dict) -> Options:
    """Checked options; ValueError that names all problems."""
    fields = {field.name: field for field in dataclasses.fields(Options)}
    problems = [f"{name}: no such option; there are {', '.join(fields)}" for name in sorted(set(given) - set(fields))]
    values = {name: given.get(name, field.default) for name, field in fields.items()}
    bounds = {
        "seed": (0, 2**63), "train_worlds": (0, 10**7), "test_worlds": (0, 10**7), "fixed_rigs": (1, 10**6),
        "min_cameras": (1, MAX_CAMERAS), "max_cameras": (1, MAX_CAMERAS), "steps": (1, 1000), "interval": (0.01, 10.0),
        "image_size": (8, 4096), "jpeg_quality": (1, 100),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        value, kinds = values[name], (int, np.integer, float) if fields[name].type is float else (int, np.integer)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            problems.append(f"{name}={value!r}: must be of type {fields[name].type.__name__}, in {low}..{high}")
    if values["image_format"] not in ("jpeg", "png"):
        problems.append(f"image_format={values['image_format']!r}: must be 'jpeg' or 'png'")
    values["layouts"] = tuple(values["layouts"])
    unknown = sorted(set(values["layouts"]) - set(LAYOUTS))
    if unknown or not values["layouts"]:
        problems.append(f"layouts={values['layouts']!r}: must name some of {', '.join(LAYOUTS)}")
    if not problems:
        problems += _count_problems(values["min_cameras"], values["max_cameras"], values["layouts"])
    if problems:
        raise ValueError("procedural source: " + "; ".join(problems))
    kinds = {name: tuple if name == "layouts" else field.type for name, field in fields.items()}
    return Options(**{name: kinds[name](value) for name, value in values.items()})


def _count_problems(least: int, most: int, layouts: tuple[str, ...]) -> list[str]:
    """What keeps rigs of every count in least..most from being made."""
    if least > most:
        return [f"min_cameras={least}: must not exceed max_cameras={most}"]
    lost = [count for count in range(least, most + 1) if not any(count in LAYOUTS[name][1] for name in layouts)]
    return [f"layouts={layouts!r}: none takes {count} cameras; change min_cameras or max_cameras" for count in lost]


@functools.lru_cache(maxsize=4)
def _rig_pool(options: Options) -> tuple[Rig, ...]:
    rng = np.random.default_rng([options.seed, _RIGS, 0])
    return draw_rig_pool(
        rng, options.fixed_rigs, options.min_cameras, options.max_cameras, options.image_size, options.layouts
    )


def _rig(options: Options, split: str, index: int) -> Rig:
    """The rig that drives through a world: one of the pool in turn, or a fresh one."""
    if split != "unseen_rigs":
        pool = _rig_pool(options)
        return pool[index % len(pool)]
    rng = np.random.default_rng([options.seed, _UNSEEN_RIGS, index])
    count = int(rng.integers(options.min_cameras, options.max_cameras + 1))
    return draw_rig(rng, count, options.image_size, options.layouts)


def _encode(image: np.ndarray, options: Options) -> bytes:
    """RGB to the bytes of an image file. JPEG keeps the full resolution of colour, which counts in small images."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if options.image_format == "jpeg":
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        settings = [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality, *sampling]
    extension = {"jpeg": ".jpg", "png": ".png"}[options.image_format]
    _, data = cv2.imencode(extension, image[:, :, ::-1], settings)
    return data.tobytes()


def _make_scene(name: str, options: Options, split: str, index: int) -> Scene:
    """Draws the world, drives the rig through it, renders all frames."""
    rig = _rig(options, split, index)
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    world = draw_world(rng, duration=(options.steps - 1) * options.interval * 1.1)
    jitter = rng.uniform(-0.05, 0.05, options.steps) * options.interval
    times = np.arange(options.steps) * options.interval + jitter - jitter[0]
    world_from_rig = drive(rng, world, times) @ rig.vehicle_from_rig
    rig_from_camera = np.stack([camera.rig_from_camera for camera in rig.cameras])
    world_from_camera = (world_from_rig[:, None] @ rig_from_camera).reshape(-1, 4, 4)
    count = len(rig.cameras)
    intrinsics = np.tile(np.stack([camera.lens.intrinsics for camera in rig.cameras]), (options.steps, 1, 1))
    images, depths = render_frames(world, np.repeat(times, count), world_from_camera, intrinsics, options.image_size)
    frames = tuple(
        Frame(
            camera=i % count,
            time=float(times[i // count]),
            step=i // count,
            world_from_camera=world_from_camera[i],
            image=_encode(images[i], options),
            depth=encode_depth(DenseDepth(depths[i])),
        )
        for i in range(len(images))
    )
    return Scene(name=name, cameras=rig.cameras, front_camera=0, frames=frames)


def splits(root: str, **options) -> tuple[str, ...]:
    """Names of the splits: training worlds, new worlds seen by the same rigs, new worlds seen by new rigs."""
    _options(options)
    return SPLITS


def scene_loaders(root: str, split: str, **options) -> list[tuple[str, Callable[[], Scene]]]:
    """Name and maker of every scene of a split. Nothing is read: `root` is ignored; options are those of `Options`."""
    checked = _options(options)
    if split not in SPLITS:
        raise ValueError(f"procedural source: no split {split!r}; there are {', '.join(SPLITS)}")
    count = checked.train_worlds if split == "train" else checked.test_worlds
    names = [f"{split}-{index:06d}" for index in range(count)]
    return [(name, functools.partial(_make_scene, name, checked, split, i)) for i, name in enumerate(names)]
