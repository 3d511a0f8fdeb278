"""Frames that break a rule are taken out of their scene and named: a bad frame costs that frame, not its recording."""

import dataclasses
from bisect import bisect_left
from collections.abc import Container, Sequence

import numpy as np

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.rig_rules import check_rig_poses, frames_off_in_time
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, Scene, about, leaving_out, no_frame_left
from rig3r_jax.data.scene_rules import FRAME_CHECKS, check_cameras, check_order, frame_name


def without_bad_frames(scene: Scene) -> Scene:
    """The scene without the frames that break a rule, which are added to its `left_out`.

    The fewest are left out so that the times of every camera ascend; of equal times the first stays. BadRecord where
    no frame is left, or a rule of the whole scene is broken.
    """
    check_cameras(scene)
    check_order(scene)
    left_out, kept = list(scene.left_out), []
    off_in_time = frames_off_in_time(scene)
    in_time = _ascending_in_time(scene.frames, off_in_time)
    for number, frame in enumerate(scene.frames):
        with leaving_out(left_out, f"{scene.cameras[frame.camera].name}, step {frame.step}"):
            with about("time"):
                where = frame_name(scene, frame)
                if number in off_in_time:
                    raise BadRecord(f"{where}: {off_in_time[number]}")
                if number not in in_time:
                    raise BadRecord(f"{where}: time {frame.time!r} s repeats or does not ascend; correct the times")
            for kind, check in FRAME_CHECKS.items():
                with about(kind):
                    check(scene, frame)
            kept.append(frame)
    if not kept:
        raise no_frame_left(scene.name, left_out)
    scene = dataclasses.replace(scene, frames=tuple(kept), left_out=tuple(left_out))
    check_rig_poses(scene)
    return scene


def has_depth(scene: Scene) -> bool:
    """Whether any frame of a checked scene has a pixel of known depth."""
    return any(_known_depths(frame).any() for frame in scene.frames)


def _ascending_in_time(frames: Sequence[Frame], but: Container[int]) -> set[int]:
    """Numbers of the most frames, of all `but` some, such that every camera's times are finite and ascend."""
    chosen: set[int] = set()
    for camera in {frame.camera for frame in frames}:
        # Longest ascending subsequence: the frame that ends the best one of each length, and every frame's predecessor.
        last_times: list[float] = []
        last_numbers: list[int] = []
        before: dict[int, int | None] = {}
        for number, frame in enumerate(frames):
            if frame.camera != camera or number in but or not np.isfinite(frame.time):
                continue
            length = bisect_left(last_times, frame.time)
            if length < len(last_times) and last_times[length] == frame.time:
                continue  # the first of equal times stays
            before[number] = last_numbers[length - 1] if length else None
            last_times[length : length + 1] = [frame.time]
            last_numbers[length : length + 1] = [number]
        number = last_numbers[-1] if last_numbers else None
        while number is not None:
            chosen.add(number)
            number = before[number]
    return chosen


def _known_depths(frame: Frame) -> np.ndarray:
    depth = decode_depth(frame.depth)
    values = depth.values if isinstance(depth, DenseDepth) else depth.depths
    return np.isfinite(values) & (values > 0)
