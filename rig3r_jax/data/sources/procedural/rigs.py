"""Random camera rigs: one to eight cameras, pinholes or fisheyes, on a vehicle, in layouts that real vehicles use.

The vehicle frame has its origin on the ground under the vehicle's centre and the axes of a level camera that looks
ahead (x right, y down, z forward). The rig frame is the front camera's frame. Yaw turns to the right.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rig3r_jax.data.scene import RigCamera
from rig3r_jax.data.sources.procedural.source import CAMERA_COUNTS
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Fisheye, Lens, Pinhole
from rig3r_jax.geometry.distortion import distort_fisheye

_FIELD_OF_VIEW_DEG = (60.0, 100.0)  # of pinholes, across the image
_FISHEYE_FIELD_DEG = (170.0, 190.0)
_FISHEYE_BENDS = (0.05, 5e-3, 5e-4, 5e-5)  # largest k1..k4: every such lens is one-to-one to 190 degrees and beyond
_FISHEYE_SHIFT = 0.02  # image sizes from the middle to the principal point, at most, along each side
_RADIUS = (0.6, 1.6)  # metres from the vehicle's centre, seen from above
_HEIGHT = (1.3, 1.9)  # metres above the ground
_SECTORS = ("front", "front_right", "right", "rear_right", "rear", "rear_left", "left", "front_left")


@dataclasses.dataclass(frozen=True)
class Rig:
    """Cameras, the front one first, and where the front camera sits on the vehicle."""

    layout: str
    cameras: tuple[RigCamera, ...]
    vehicle_from_rig: np.ndarray  # (4, 4) float64, metres
    delays: tuple[float, ...] = ()  # seconds after a time step at which each camera takes its image; (): all at once


@dataclasses.dataclass(frozen=True)
class _Mount:
    """Where a layout wants a camera: its yaw, and its place on the vehicle as a bearing and a distance."""

    yaw_deg: float
    bearing_deg: float
    radius: float


def _ring(rng: np.random.Generator, yaws_deg: list[float]) -> list[_Mount]:
    """Each camera sits on the side of the vehicle to which it looks."""
    radius = rng.uniform(*_RADIUS)
    return [_Mount(yaw, yaw + rng.normal(0, 6), float(np.clip(radius * rng.uniform(0.85, 1.15), *_RADIUS)))
            for yaw in yaws_deg]  # fmt: skip


def _single(rng: np.random.Generator, count: int) -> list[_Mount]:
    return _ring(rng, [0.0])


def _stereo(rng: np.random.Generator, count: int) -> list[_Mount]:
    """Two parallel cameras, the left one first."""
    baseline, ahead = rng.uniform(0.3, 1.2), rng.uniform(0.7, 1.4)
    bearing, radius = math.degrees(math.atan2(baseline / 2, ahead)), math.hypot(baseline / 2, ahead)
    return [_Mount(0.0, -bearing, radius), _Mount(0.0, bearing, radius)]


def _front_rear(rng: np.random.Generator, count: int) -> list[_Mount]:
    return _ring(rng, [0.0, 180.0])


def _side_pairs(rng: np.random.Generator, count: int) -> list[_Mount]:
    """A front camera and mirrored pairs, from half ahead to half behind."""
    pairs = (count - 1) // 2
    yaws = np.sort(rng.uniform(40, 140, pairs)) if pairs > 1 else rng.uniform(45, 115, 1)
    return _ring(rng, [0.0] + [side * float(yaw) for yaw in yaws for side in (-1, 1)])


def _fan(rng: np.random.Generator, count: int) -> list[_Mount]:
    """Cameras in a row above the windscreen, looking ahead and outwards; neighbours overlap."""
    step = rng.uniform(20, 50)
    yaws = [step * (i - (count - 1) // 2) for i in range(count)]
    yaws.sort(key=abs)
    return [_Mount(yaw, 0.8 * yaw, rng.uniform(0.6, 1.1)) for yaw in yaws]


def _surround(rng: np.random.Generator, count: int) -> list[_Mount]:
    return _ring(rng, [360.0 * i / count for i in range(count)])


def _stereo_surround(rng: np.random.Generator, count: int) -> list[_Mount]:
    """A stereo pair ahead, the other cameras around the rest of the vehicle."""
    others = count - 2
    return _stereo(rng, 2) + _ring(rng, [360.0 * (i + 1) / (others + 1) for i in range(others)])


_MOUNTS: dict[str, Callable[[np.random.Generator, int], list[_Mount]]] = {  # by layout
    "single": _single,
    "stereo": _stereo,
    "front_rear": _front_rear,
    "side_pairs": _side_pairs,
    "fan": _fan,
    "surround": _surround,
    "stereo_surround": _stereo_surround,
}
assert list(_MOUNTS) == list(CAMERA_COUNTS)


def _vehicle_from_camera(rng: np.random.Generator, mount: _Mount, height: float, pitch_deg: float) -> np.ndarray:
    """The mount as a transform, with the small errors of a real installation."""
    bearing = math.radians(mount.bearing_deg)
    angles = mount.yaw_deg + rng.normal(0, 1.5), pitch_deg + rng.normal(0, 1.0), rng.normal(0, 0.7)
    vehicle_from_camera = np.eye(4)
    vehicle_from_camera[:3, :3] = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    vehicle_from_camera[:3, 3] = (
        mount.radius * math.sin(bearing),
        -height - rng.uniform(-0.15, 0.15),
        mount.radius * math.cos(bearing),
    )
    return vehicle_from_camera


def pinhole(field_of_view_deg: float, image_size: int) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a square image with square pixels and a centred principal point."""
    focal = image_size / 2 / math.tan(math.radians(field_of_view_deg) / 2)
    return np.array([[focal, 0, image_size / 2], [0, focal, image_size / 2], [0, 0, 1]])


def fisheye(rng: np.random.Generator, image_size: int, field_deg: tuple[float, float] = _FISHEYE_FIELD_DEG) -> Fisheye:
    """A Kannala-Brandt lens of a square image with square pixels, as a real calibration finds it.

    `field_deg`: least and largest field of view across the image.
    """
    half_angle = math.radians(rng.uniform(*field_deg)) / 2
    bends = rng.uniform(-1, 1, 4) * _FISHEYE_BENDS
    focal = image_size / 2 / distort_fisheye(np.array([half_angle]), bends)[0]
    cx, cy = image_size * (0.5 + rng.uniform(-1, 1, 2) * _FISHEYE_SHIFT)
    return Fisheye(np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]]), bends)


def _names(mounts: list[_Mount]) -> list[str]:
    """A name per camera by the sector to which it looks; a number is added where a sector has several."""
    names: list[str] = []
    for mount in mounts:
        sector = _SECTORS[round(mount.yaw_deg / 45) % 8]
        taken = sum(name == sector or name.startswith(f"{sector}_at_") for name in names)
        names.append(f"{sector}_at_{taken + 1}" if taken else sector)
    return names


def draw_rig(
    rng: np.random.Generator,
    count: int,
    image_size: int,
    layouts: Sequence[str] = tuple(CAMERA_COUNTS),
    lenses: str = "pinhole",
) -> Rig:
    """A random rig of `count` cameras in one of the `layouts` that take as many; the front camera is the first.

    Equal generators mount the cameras equally whatever the `lenses`, one of `source.LENSES`.

    Raises:
        ValueError: when no layout does.
    """
    fitting = [name for name, counts in CAMERA_COUNTS.items() if name in layouts and count in counts]
    if not fitting:
        raise ValueError(
            f"no layout of {', '.join(layouts)} takes {count} cameras; change their numbers or the layouts"
        )
    layout = str(rng.choice(fitting))
    mounts = _MOUNTS[layout](rng, count)
    height, pitch_deg, field_of_view = rng.uniform(*_HEIGHT), rng.uniform(-4, 3), rng.uniform(*_FIELD_OF_VIEW_DEG)
    lens_rng = rng.spawn(1)[0]  # takes no number from `rng`
    shared_fisheye = fisheye(lens_rng, image_size)
    vehicle_from_cameras = [_vehicle_from_camera(rng, mount, height, pitch_deg) for mount in mounts]
    rig_from_vehicle = rigid.invert(vehicle_from_cameras[0])
    cameras = []
    for i, (name, vehicle_from_camera) in enumerate(zip(_names(mounts), vehicle_from_cameras, strict=True)):
        own_lens = rng.uniform() < 0.25
        degrees = rng.uniform(*_FIELD_OF_VIEW_DEG) if own_lens else field_of_view
        rig_from_camera = np.eye(4) if i == 0 else rig_from_vehicle @ vehicle_from_camera
        lens: Lens = Pinhole(pinhole(degrees, image_size))
        if lenses == "fisheye":
            lens = fisheye(lens_rng, image_size) if own_lens else shared_fisheye
        cameras.append(RigCamera(name, lens, (image_size, image_size), rig_from_camera))
    return Rig(layout, tuple(cameras), vehicle_from_cameras[0])


def draw_rig_pool(
    rng: np.random.Generator,
    size: int,
    min_cameras: int,
    max_cameras: int,
    image_size: int,
    layouts: Sequence[str] = tuple(CAMERA_COUNTS),
    lenses: str = "pinhole",
) -> tuple[Rig, ...]:
    """Rigs whose camera counts are spread evenly over min_cameras..max_cameras."""
    counts = np.arange(min_cameras, max_cameras + 1)
    rounds = [rng.permutation(counts) for _ in range(-(-size // len(counts)))]
    return tuple(draw_rig(rng, int(count), image_size, layouts, lenses) for count in np.concatenate(rounds)[:size])
