"""`rig3r bench worlds`: what rig and clock alone tell of the poses of procedural drives; images per second.

The closed form knows the true rig and drives straight ahead at `baselines.SPEED`; what it scores on a kind of worlds is
what images are not needed for. Samples are those of configs/demo.py, of the split of unseen rigs; nothing is rendered
for them.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from rig3r_jax.benchmarks.result import Record, Row
from rig3r_jax.configs import demo
from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.sampling import draw_frames
from rig3r_jax.data.scene import Frame, Scene
from rig3r_jax.data.sources.procedural.scenes import Drive, make_drive
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.evaluation.baselines import straight_rig
from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.evaluation.rows import ACROSS_TIMES, SAME_TIME
from rig3r_jax.evaluation.scores import Scorer
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import Targets

SPLIT = "unseen_rigs"


def command(options: argparse.Namespace, flags: Sequence[str]) -> int:
    """Prints a line per kind of worlds and setting, and writes the JSON."""
    settings = {"drives": options.drives, "images": options.images, "split": SPLIT}
    record = Record(options, options.name or "worlds", settings)
    for worlds in (1, 2):
        for interval in options.intervals:
            record.add(closed_form(_source(worlds, interval=interval, test_worlds=options.drives), options.drives))
    for worlds in (1, 2):
        for size in options.sizes:
            record.add(rendering(_source(worlds, image_size=size, test_worlds=100), options.images))
    record.end()
    return 0


def _source(worlds: int, **options) -> Procedural:
    """That of the demo, but for the kind of the worlds and `options`."""
    return Procedural(**(demo.get_config().data.mixture[0].options.to_dict() | {"worlds": worlds} | options))


def closed_form(source: Procedural, drives: int) -> Row:
    """mAA30 of the closed form on one sample of each drive, in percent, and how the vehicles move."""
    rule = PipelineOptions(**demo.get_config().sampling.to_dict()).draw()
    scorer, speeds, turns = Scorer(), [], []
    for index in range(drives):
        driven = make_drive(source, SPLIT, index)
        scene = posed_scene(driven)
        frames = [scene.frames[i] for i in draw_frames(scene, np.random.default_rng([1, index]), **rule)]
        truth = targets_of(scene, frames)
        scorer.add_poses(straight_rig(truth), truth.reference_from_camera, truth.time, truth.camera_index)
        gaps = np.diff(driven.times)
        speeds.append(np.linalg.norm(np.diff(driven.world_from_rig[:, :3, 3], axis=0), axis=1) / gaps)
        turns.append(rotation_angle_deg(driven.world_from_rig[:-1, :3, :3], driven.world_from_rig[1:, :3, :3]) / gaps)
    scores, speed, turn = scorer.scores(), np.concatenate(speeds), np.concatenate(turns)
    return {
        "worlds": source.worlds,
        "interval s": source.interval,
        "drives": drives,
        "closed form mAA30": scores["mAA30"],
        "same time": scores[SAME_TIME]["mAA30"],
        "across times": scores[ACROSS_TIMES]["mAA30"],
        "median m/s": float(np.median(speed)),
        "most m/s": float(speed.max()),
        "median deg/s": float(np.median(turn)),
        "most deg/s": float(turn.max()),
    }


def targets_of(scene: Scene, frames: Sequence[Frame]) -> Targets:
    """Poses, times and rig of one sample; it has no depth."""
    nothing = np.zeros((1, len(frames), 1, 1))
    world_from_camera = np.stack([frame.world_from_camera for frame in frames])
    cameras = [scene.cameras[frame.camera] for frame in frames]
    return Targets(
        depth=nothing,
        valid=nothing.astype(bool),
        reference_from_camera=(rigid.invert(world_from_camera[:1]) @ world_from_camera)[None],
        rig_from_camera=np.stack([camera.rig_from_camera for camera in cameras])[None],
        intrinsics=np.stack([camera.lens.intrinsics for camera in cameras])[None],
        camera_index=np.array([[frame.camera for frame in frames]]),
        time=np.array([[frame.time - frames[0].time for frame in frames]]),
    )


def posed_scene(driven: Drive) -> Scene:
    """The frames of a drive with poses and times, but no images."""
    times, poses = driven.camera_times, driven.world_from_camera
    frames = [Frame(c, float(times[s, c]), s, poses[s, c], b"", b"") for s, c in np.ndindex(times.shape)]
    return Scene("drive", driven.rig.cameras, 0, tuple(frames))


def rendering(source: Procedural, images: int) -> Row:
    """Images per second of one core, encoded, of whole scenes that have that many together, after a first one."""
    loaders = [loader for _, loader in source.scenes(SPLIT)]
    loaders[0]()
    made, start = 0, time.process_time()
    for loader in loaders[1:]:
        made += len(loader().frames)
        if made >= images:
            break
    seconds = time.process_time() - start
    return {"worlds": source.worlds, "size": source.image_size, "images": made, "images/s per core": made / seconds}
