"""The rules that a scene must keep to be written as records and trained on."""

import numpy as np

from rig3r_jax.data.frame_bytes import decode_depth, decode_mask
from rig3r_jax.data.image_bytes import MAX_SIDE, usable_size
from rig3r_jax.data.rig_rules import check_lens_fits, check_rig_poses, frames_off_in_time
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, Scene
from rig3r_jax.geometry import rigid

_FARTHEST = 1e8  # metres from the origin; the earth's centre is nearer to its surface
_TOLERANCE = 1e-4  # of rotations, and metres between the front camera and the rig: sources give better ones


def check_scene(scene: Scene) -> None:
    """BadRecord, naming the scene and the first rule that it breaks, unless the scene can be trained on.

    A scene may be without any depth: its poses and rays are trained on.
    """
    check_cameras(scene)
    check_order(scene)
    _check_times(scene)
    for frame in scene.frames:
        for check in FRAME_CHECKS.values():
            check(scene, frame)
    for number, reason in frames_off_in_time(scene).items():
        raise BadRecord(f"{frame_name(scene, scene.frames[number])}: {reason}")
    check_rig_poses(scene)


def frame_name(scene: Scene, frame: Frame) -> str:
    """Where a frame is, for messages."""
    return f"scene {scene.name}, camera {scene.cameras[frame.camera].name}, step {frame.step}"


def check_cameras(scene: Scene) -> None:
    """BadRecord unless the rig's calibration can be used and its front camera is its frame."""
    names = [camera.name for camera in scene.cameras]
    if not names or len(set(names)) < len(names):
        raise BadRecord(f"scene {scene.name}: cameras are {names}; there must be some, each name once")
    if not 0 <= scene.front_camera < len(names):
        raise BadRecord(f"scene {scene.name}: front camera is number {scene.front_camera} of {len(names)} cameras")
    for camera in scene.cameras:
        where = f"scene {scene.name}, camera {camera.name}"
        camera.lens.check(where, BadRecord)
        if not 1 <= min(camera.size) <= max(camera.size) <= MAX_SIDE:
            raise BadRecord(f"{where}: image size {camera.size} must be positive, at most {MAX_SIDE} a side")
        rigid.check(camera.rig_from_camera, f"{where}: rig_from_camera", BadRecord, _TOLERANCE)
    front = scene.cameras[scene.front_camera]
    if not np.allclose(front.rig_from_camera, np.eye(4), atol=_TOLERANCE):
        raise BadRecord(f"scene {scene.name}: rig_from_camera of front camera {front.name} must be the identity")
    check_lens_fits(scene)


def check_order(scene: Scene) -> None:
    """Frames ascend by (step, camera) without repeats; only a single camera may be without order."""
    if not scene.ordered and len(scene.cameras) > 1:
        raise BadRecord(f"scene {scene.name}: has no order and {len(scene.cameras)} cameras; only one may have none")
    if not scene.frames:
        raise BadRecord(f"scene {scene.name}: has no frames")
    last_key = (-1, -1)
    for frame in scene.frames:
        if not 0 <= frame.camera < len(scene.cameras):
            raise BadRecord(f"scene {scene.name}: a frame is of camera number {frame.camera} of {len(scene.cameras)}")
        if (frame.step, frame.camera) <= last_key or frame.step < 0:
            where = frame_name(scene, frame)
            raise BadRecord(f"{where}: comes after (step, camera) {last_key}; frames must ascend, each once")
        last_key = (frame.step, frame.camera)


def _check_times(scene: Scene) -> None:
    """Each camera's times ascend with the steps."""
    last_time: dict[int, float] = {}
    for frame in scene.frames:
        before = last_time.get(frame.camera, -np.inf)
        if not (np.isfinite(frame.time) and frame.time > before):
            where = frame_name(scene, frame)
            raise BadRecord(f"{where}: time {frame.time} s comes after {before} s of the same camera; must ascend")
        last_time[frame.camera] = frame.time


def _check_pose(scene: Scene, frame: Frame) -> None:
    where = f"{frame_name(scene, frame)}: world_from_camera"
    if np.isnan(frame.world_from_camera).all():
        raise BadRecord(f"{where} is not known, which training needs; add the recording's poses (poses= names a file)")
    rigid.check(frame.world_from_camera, where, BadRecord, _TOLERANCE)
    position = frame.world_from_camera[:3, 3]
    if np.abs(position).max() > _FARTHEST:
        raise BadRecord(f"{where} is at {position.tolist()}, must be within {_FARTHEST:g} m of the origin; correct it")


def _check_image(scene: Scene, frame: Frame) -> None:
    """The image can be used and its size is the camera's; pixels are decoded when drawn."""
    data, size, where = frame.image, scene.cameras[frame.camera].size, frame_name(scene, frame)
    try:
        height, width = usable_size(data)
    except BadRecord as error:
        raise BadRecord(f"{where}: {error}") from error
    if (height, width) != tuple(size):
        raise BadRecord(f"{where}: image is {height} x {width} pixels, calibration is for {size[0]} x {size[1]}")


def _check_depth(scene: Scene, frame: Frame) -> None:
    try:
        depth = decode_depth(frame.depth)
    except BadRecord as error:
        raise BadRecord(f"{frame_name(scene, frame)}: {error}") from error
    height, width = scene.cameras[frame.camera].size
    if isinstance(depth, DenseDepth):
        if depth.values.shape != (height, width):
            raise BadRecord(f"{frame_name(scene, frame)}: depth is {depth.values.shape}, image is {(height, width)}")
    elif not ((depth.pixels >= 0) & (depth.pixels <= [width, height])).all():
        raise BadRecord(f"{frame_name(scene, frame)}: depth points lie outside the image of {height} x {width}")


def _check_mask(scene: Scene, frame: Frame) -> None:
    if not frame.mask:
        return
    try:
        shape = decode_mask(frame.mask).shape
    except BadRecord as error:
        raise BadRecord(f"{frame_name(scene, frame)}: {error}") from error
    if shape != tuple(scene.cameras[frame.camera].size):
        raise BadRecord(f"{frame_name(scene, frame)}: mask is {shape}, image is {scene.cameras[frame.camera].size}")


# By kind of what they look at: each takes a scene and one of its frames, and raises BadRecord naming both.
FRAME_CHECKS = {"pose": _check_pose, "image": _check_image, "depth": _check_depth, "mask": _check_mask}
