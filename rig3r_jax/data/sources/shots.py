"""Scenes of images that a source lists with their cameras, times and poses: read, checked, re-based and in order."""

import collections
import dataclasses
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth, encode_mask
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
from rig3r_jax.data.sources.one_calibration import SameRays, bring_depth, bring_image, middle_lens
from rig3r_jax.geometry import rigid

if typing.TYPE_CHECKING:
    import rig3r_jax.geometry.camera

CAMERA = "camera"  # the name of a camera that is its own rig


@dataclasses.dataclass(frozen=True)
class ShotCamera:
    """A camera of the rig, as the files tell it."""

    name: str
    lens: "rig3r_jax.geometry.camera.Lens"
    rig_from_camera: np.ndarray  # (4, 4) float64, metres; identity for the front camera
    size: tuple[int, int] | None = None  # height, width that the calibration states; None: that of most images


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image with its place, not read yet."""

    camera: str
    step: int
    time: float  # seconds
    image: Path
    world_from_camera: np.ndarray  # (4, 4) float64, in the source's own world, which may be far from its origin
    # Of a camera with the image's own lens: its depth, and (h, w) bool where the image shows what moves and where it
    # shows no part of the scene.
    depth: Callable[[RigCamera], DenseDepth | SparseDepth] | None = None
    moving: Callable[[RigCamera], np.ndarray] | None = None
    outside: Callable[[RigCamera], np.ndarray] | None = None
    lens: "rig3r_jax.geometry.camera.Lens | None" = None  # of an image that is calibrated by itself, a pinhole


def scene_of_shots(
    name: str, cameras: Sequence[ShotCamera], front: str, shots: Sequence[Shot], left_out: Sequence[LeftOut] = ()
) -> Scene:
    """The scene of these images; its world is the frame of the front camera's first image.

    An image that does not read, or whose depth, mask or pose does not, is left out and added to those of `left_out`,
    which the caller could not use. A camera without images is none of the scene. An image with a lens of its own is
    brought to its camera's (see `one_calibration`). BadRecord where no image of the front camera is left.
    """
    left_out, images = list(left_out), {}
    for number, shot in enumerate(shots):
        with leaving_out(left_out, _where(shot)), about("image"):
            images[number] = read_image(shot.image)
    rig = _rig(cameras, [(shots[number].camera, size) for number, (_, size) in images.items()])
    numbers = {camera.name: number for number, camera in enumerate(rig)}
    frames: list[Frame] = []
    for number, (image, size) in images.items():
        shot = shots[number]
        with leaving_out(left_out, _where(shot)):
            camera = rig[numbers[shot.camera]]
            if size != camera.size:
                with about("image"):
                    raise BadRecord(f"{shot.image}: is {size}, its camera's images are {camera.size} (height, width)")
            frames.append(_frame(shot, image, camera, numbers[shot.camera]))
    frames.sort(key=lambda frame: (frame.step, frame.camera))
    first = next((frame for frame in frames if rig[frame.camera].name == front), None)
    if first is None and left_out:
        raise no_frame_left(name, left_out)
    if first is None:
        raise BadRecord(f"scene {name}: has no image of its front camera {front}; set front= to a camera that it has")
    base_from_world = rigid.invert(first.world_from_camera)
    frames = [
        dataclasses.replace(frame, world_from_camera=base_from_world @ frame.world_from_camera) for frame in frames
    ]
    return Scene(name, rig, numbers[front], tuple(frames), tuple(left_out), rigid.invert(base_from_world))


def middle_pose(a_from_b: Sequence[np.ndarray] | Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "4 4"]:
    """The transform nearest to the medians of the numbers of these, which are one but for small errors."""
    return rigid.nearest_rigid(np.median(a_from_b, axis=0))


def size_of(images: Iterable[Path], where: str) -> tuple[int, int]:
    """Height and width of the first image that reads; BadRecord, naming `where`, if none does."""
    reason = "there is none"
    for path in images:
        try:
            return read_image(path)[1]
        except BadRecord as error:
            reason = str(error)
    raise BadRecord(f"{where}: no image can be used: {reason}")


def _where(shot: Shot) -> str:
    return f"{shot.camera}, {shot.image.name}"


def _rig(cameras: Sequence[ShotCamera], images: Sequence[tuple[str, tuple[int, int]]]) -> tuple[RigCamera, ...]:
    """Those cameras that have images, each with the size that its calibration states or most of its images have."""
    sizes = {name: collections.Counter(size for other, size in images if other == name) for name, _ in images}
    return tuple(
        RigCamera(
            camera.name, camera.lens, camera.size or sizes[camera.name].most_common(1)[0][0], camera.rig_from_camera
        )
        for camera in cameras
        if camera.name in sizes
    )


def _frame(shot: Shot, image: bytes, camera: RigCamera, number: int) -> Frame:
    own = camera if shot.lens is None else dataclasses.replace(camera, lens=shot.lens)
    with about("pose"):
        rigid.check(shot.world_from_camera, f"{shot.image}: world_from_camera", BadRecord)
    with about("depth"):
        depth = shot.depth(own) if shot.depth else NO_POINTS
    with about("mask"):
        moving = shot.moving(own) if shot.moving else None
        outside = shot.outside(own) if shot.outside else np.zeros(camera.size, bool)
    if shot.lens is not None and (same_rays := SameRays.between(shot.lens, camera.lens, camera.size)).worth_it:
        image, depth = bring_image(image, same_rays), bring_depth(depth, same_rays)
        moving = None if moving is None else same_rays.bring_mask(moving)
        outside = same_rays.bring_mask(outside) | same_rays.outside()
    return Frame(
        camera=number,
        time=shot.time,
        step=shot.step,
        world_from_camera=np.asarray(shot.world_from_camera, np.float64),
        image=image,
        depth=encode_depth(depth),
        mask=encode_mask(outside, moving),
    )


def scene_of_one_camera(
    name: str,
    shots: Sequence[Shot],
    left_out: Sequence[LeftOut] = (),
    size: tuple[int, int] | None = None,
    ordered: bool = True,
) -> Scene:
    """The scene of one camera that is its own rig, whose images (of `CAMERA`) are each calibrated by themselves.

    `size` (height, width) is that of the calibration, or None: that of most images. `ordered` says whether the images
    follow one another along a way.
    """
    if not shots and left_out:
        raise no_frame_left(name, left_out)
    if not shots:
        raise BadRecord(f"scene {name}: has no images; restore them or leave it out")
    lens = middle_lens([shot.lens for shot in shots])
    scene = scene_of_shots(name, [ShotCamera(CAMERA, lens, np.eye(4), size)], CAMERA, shots, left_out)
    return dataclasses.replace(scene, ordered=ordered)
