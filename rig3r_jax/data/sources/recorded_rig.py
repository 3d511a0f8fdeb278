"""A rig's way through one place as its files tell it, whatever their format: images with poses and calibrated cameras,
of which scenes are made."""

import collections
import dataclasses
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import rig3r_jax  # by which an annotation below is read
from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import (
    BadRecord,
    DenseDepth,
    Frame,
    LeftOut,
    RigCamera,
    Scene,
    SparseDepth,
    about,
    leaving_out,
    no_frame_left,
)
from rig3r_jax.geometry import rigid

if typing.TYPE_CHECKING:
    import rig3r_jax.geometry.camera


@dataclasses.dataclass(frozen=True)
class RecordedCamera:
    """A camera as far as the files tell before an image is read."""

    name: str
    lens: "rig3r_jax.geometry.camera.Lens"  # in a string: its module imports JAX (see data.scene)
    size: tuple[int, int] | None  # height, width; None: that of most of its images
    rig_from_camera: np.ndarray  # (4, 4) float64, of any frame of the rig


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image of a recording with its pose; its files are read where the scene is made."""

    camera: int  # index into Recording.cameras
    step: int  # of the recording's time steps, which are counted from 0 without gaps
    time: float  # seconds
    image: Path
    world_from_camera: np.ndarray  # (4, 4) float64, metres
    depth: Callable[[RigCamera], DenseDepth | SparseDepth] | None = None  # raises BadRecord
    mask: Callable[[RigCamera], bytes] | None = None  # raises BadRecord


@dataclasses.dataclass(frozen=True)
class Recording:
    """A rig's way through one place."""

    name: str
    cameras: tuple[RecordedCamera, ...]
    shots: tuple[Shot, ...]  # by (step, camera)
    left_out: tuple[LeftOut, ...] = ()  # images that are listed and of no use
    notes: tuple[str, ...] = ()  # what was read from which file
    ordered: bool = True  # False: photographs of one camera, whose time steps are in no order
    rig_is_stated: bool = True  # False: by no calibration; see `Scene`

    @property
    def steps(self) -> int:
        """How many time steps there are."""
        return self.shots[-1].step + 1 if self.shots else 0


def in_order(shots: Sequence[Shot]) -> tuple[Shot, ...]:
    """By (step, camera), with steps counted anew from 0 without gaps."""
    rank = {step: number for number, step in enumerate(sorted({shot.step for shot in shots}))}
    renumbered = (dataclasses.replace(shot, step=rank[shot.step]) for shot in shots)
    return tuple(sorted(renumbered, key=lambda shot: (shot.step, shot.camera)))


def steps_by_time(taken: Sequence[tuple[object, float]], tolerance: float) -> list[int]:
    """The time step of each of (camera, seconds): images of different cameras within `tolerance` seconds of the first
    of a step are in it. Steps ascend in time."""
    steps = [0] * len(taken)
    step, start, cameras = -1, -float("inf"), set()
    for number in sorted(range(len(taken)), key=lambda number: taken[number][1]):
        camera, time = taken[number]
        if time - start > tolerance or camera in cameras:
            step, start, cameras = step + 1, time, set()
        cameras.add(camera)
        steps[number] = step
    return steps


def load_scene(recording: Recording, name: str, steps: frozenset[int], front: int) -> Scene:
    """The scene of some time steps of a recording: images, depths and masks are read here.

    A frame whose files do not read is left out. The rig's frame is that of camera number `front`, or of the first one
    of which the scene has an image where it has none of that. BadRecord, naming the first reason, for no frame at all.
    """
    shots = [shot for shot in recording.shots if shot.step in steps]
    left_out: list[LeftOut] = []
    images: dict[int, tuple[bytes, tuple[int, int]]] = {}
    for number, shot in enumerate(shots):
        with leaving_out(left_out, _name(recording, shot)), about("image"):
            images[number] = read_image(shot.image)
    cameras, index_of = _cameras(recording, [(shots[number], size) for number, (_, size) in images.items()], front)
    if not cameras:
        raise no_frame_left(name, left_out)
    reference = next((shots[number] for number in images if shots[number].camera == front), shots[min(images)])
    base_from_world = rigid.invert(reference.world_from_camera)
    frames = []
    for number, (image, size) in images.items():
        shot = shots[number]
        with leaving_out(left_out, _name(recording, shot)):
            camera = cameras[index_of[shot.camera]]
            with about("image"):
                _check_size(shot, size, camera, recording.cameras[shot.camera])
            with about("depth"):
                depth = shot.depth(camera) if shot.depth else NO_POINTS
            with about("mask"):
                mask = shot.mask(camera) if shot.mask else b""
            frames.append(
                Frame(
                    camera=index_of[shot.camera],
                    time=shot.time,
                    step=shot.step - min(steps),
                    world_from_camera=base_from_world @ shot.world_from_camera,
                    image=image,
                    depth=encode_depth(depth),
                    mask=mask,
                )
            )
    if not frames:
        raise no_frame_left(name, left_out)
    front = front if front in index_of else min(index_of)
    return Scene(
        name,
        cameras,
        index_of[front],
        tuple(frames),
        tuple(left_out),
        source_from_world=reference.world_from_camera,
        body_from_rig=recording.cameras[front].rig_from_camera,
        ordered=recording.ordered,
        rig_is_stated=recording.rig_is_stated,
    )


def _name(recording: Recording, shot: Shot) -> str:
    return f"{recording.cameras[shot.camera].name}, {shot.image.name}"


def _check_size(shot: Shot, size: tuple[int, int], camera: RigCamera, recorded: RecordedCamera) -> None:
    if size != camera.size:
        what = "its calibration is for" if recorded.size else "most images of the camera are"
        raise BadRecord(
            f"{shot.image}: is {size}, {what} {camera.size} (height, width); calibrate for the images as stored"
        )


def _cameras(
    recording: Recording, seen: Sequence[tuple[Shot, tuple[int, int]]], front: int
) -> tuple[tuple[RigCamera, ...], dict[int, int]]:
    """The cameras of which a scene has images, in the frame of the front one; and their numbers by the recording's."""
    sizes: dict[int, collections.Counter[tuple[int, int]]] = {}
    for shot, size in seen:
        sizes.setdefault(shot.camera, collections.Counter())[size] += 1
    numbers = sorted(sizes)
    if not numbers:
        return (), {}
    front = front if front in numbers else numbers[0]
    front_from_rig = rigid.invert(recording.cameras[front].rig_from_camera)
    cameras = []
    for number in numbers:
        camera = recording.cameras[number]
        place = np.eye(4) if number == front else rigid.nearest_rigid(front_from_rig @ camera.rig_from_camera)
        size = camera.size or sizes[number].most_common(1)[0][0]
        cameras.append(RigCamera(camera.name, camera.lens, size, place))
    return tuple(cameras), {number: index for index, number in enumerate(numbers)}
