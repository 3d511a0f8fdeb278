"""`rig3r bench drift`: how far many windows stray from a drive that comes back, with and without loops."""

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.benchmarks.drift_model import LoopDrive, NoisyTruth, make_loop, numbered_shots, source_of
from rig3r_jax.benchmarks.result import Record, Row
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.evaluation.trajectory import absolute_errors, align_trajectory
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion.fuse import Fused, fuse
from rig3r_jax.geometry.fusion.problem import Constraints, ScaleLink, WindowPoses
from rig3r_jax.inference.loop_check import loop_verdicts, right_loops
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.pass_store import opened_store
from rig3r_jax.inference.passes import Pass, run_passes
from rig3r_jax.inference.retrieval import descriptors_of
from rig3r_jax.inference.scale_ratios import scale_ratios
from rig3r_jax.inference.shots import Shot
from rig3r_jax.inference.windows import Facts, WindowPlan, plan_windows

_STRETCH = 100.0  # metres of way that drift is told over
_RIGHT_LOOP = 15.0  # metres between the cameras of a pair, at most, for a loop that is one
_SETTINGS = ("images", "size", "laps", "interval", "sigma", "sigma_deg", "false_loops", "seed", "model")


@dataclasses.dataclass(frozen=True)
class Case:
    """One way of joining the windows of a drive."""

    overlap: float
    loops: bool
    rig: bool  # whether it is known
    false_loops: int


def command(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints one row per way of joining, and writes the JSON."""
    if min(options.sigma, options.sigma_deg) <= 0:
        raise ValueError(f"--sigma {options.sigma:g} and --sigma-deg {options.sigma_deg:g} must be positive")
    settings = {name: getattr(options, name) for name in _SETTINGS}
    record = Record(options, options.name or f"drift-{'model' if options.model else 'noise'}", settings)
    for cameras in options.cameras:
        source = source_of(options.images, cameras, options.interval, options.seed)
        loop = make_loop(source, options.laps)
        rig = "one camera" if cameras == 1 else f"{cameras} cameras"
        print(f"{len(loop.step)} images of {rig}, {loop.length:.0f} m, {options.laps:g} laps", flush=True)
        cases = _cases(options, cameras)
        model = _model(options, loop)
        shots = {rig: _shots(options, model, source, loop, rig) for rig in {case.rig for case in cases}}
        for case in cases:
            record.add({"cameras": cameras} | _row(model, shots[case.rig], loop, case, options))
    record.end()
    return 0


def _cases(options: argparse.Namespace, cameras: int) -> list[Case]:
    """Every overlap, without loops and with them, without the rig and with it; and with wrong loops, at the middle
    overlap."""
    rigs = (False, True) if cameras > 1 else (False,)
    cases = [Case(overlap, loops, rig, 0) for rig, overlap, loops in
             itertools.product(rigs, options.overlap, (False, True))]  # fmt: skip
    middle = sorted(options.overlap)[len(options.overlap) // 2]
    return cases + [Case(middle, True, rig, options.false_loops) for rig in rigs if options.false_loops]


def _row(model: Model, shots: Sequence[Shot], loop: LoopDrive, case: Case, options: argparse.Namespace) -> Row:
    began, facts = time.monotonic(), Facts.of(shots)
    vectors = descriptors_of(model.describe, shots) if case.loops else None
    plan = plan_windows(facts, options.size, case.overlap, descriptors=vectors)
    if case.false_loops:
        plan = _with_false_loops(plan, loop, case.false_loops, options)
    with opened_store(None, "") as store:
        passes = run_passes(model, shots, plan.windows, store)
    proposed = plan.loops
    plan, passes = right_loops(plan, passes, loop_verdicts(plan, passes, facts))
    ran = time.monotonic()
    fused = _fused(passes, loop, case.rig)
    row = {
        "rig": "known" if case.rig else "not known",
        "overlap": case.overlap,
        "windows": len(plan.windows) - len(plan.loops),
        "loops": len(proposed),
        "wrong": sum(_distance(loop, pair) > _RIGHT_LOOP for pair in proposed),
        "left out": len(proposed) - len(plan.loops),
        "wrong left": sum(_distance(loop, pair) > _RIGHT_LOOP for pair in plan.loops),
    }
    seconds = {"passes s": ran - began, "joining s": time.monotonic() - ran, "peak GB": _peak_bytes() / 1e9}
    return row | _errors(fused, loop, case.rig) | {"iterations": fused.iterations} | seconds


def _model(options: argparse.Namespace, loop: LoopDrive) -> Model:
    if not options.model:
        return NoisyTruth(loop, options.sigma, options.sigma_deg, options.seed)
    from rig3r_jax.inference.models.open import open_model

    model = open_model(options.model)
    if model.describe is None:
        raise ValueError(f"{options.model}: has no encoder that can be run by itself, which loops are found by")
    return model


def _shots(options: argparse.Namespace, model: Model, source: Procedural, loop: LoopDrive, rig: bool) -> list[Shot]:
    if not options.model:
        return numbered_shots(loop, 64)
    from rig3r_jax.benchmarks.drift_images import seen_shots

    with tempfile.TemporaryDirectory() as temporary:
        return seen_shots(model, source, loop.drive, Path(temporary), rig)


def _fused(passes: Sequence[Pass], loop: LoopDrive, rig: bool) -> Fused:
    windows = [WindowPoses(one.rows, one.world_from_camera, one.joining_covariance) for one in passes]
    links = [ScaleLink(*ratio) for ratio in scale_ratios(passes)]
    on_rig = {"step": loop.step, "rig_from_camera": loop.rig_from_camera} if rig else {}
    return fuse(windows, Constraints(len(loop.step), **on_rig, scale_links=links))


def _with_false_loops(plan: WindowPlan, loop: LoopDrive, count: int, options: argparse.Namespace) -> WindowPlan:
    """With windows of images of two places that are far from each other, as a wrong match would make them."""
    rng, windows, pairs = np.random.default_rng([options.seed, 2]), list(plan.windows), list(plan.loops)
    half = options.size // 2 // loop.cameras * loop.cameras or options.size // 2
    while len(windows) < len(plan.windows) + count:
        starts = np.sort(rng.integers((len(loop.step) - half) // loop.cameras, size=2)) * loop.cameras
        pair = int(starts[0]), int(starts[1])
        if _distance(loop, pair) > 4 * _RIGHT_LOOP:
            windows.append(np.concatenate([start + np.arange(half) for start in pair]))
            pairs.append(pair)
    return WindowPlan(tuple(windows), tuple(pairs))


def _distance(loop: LoopDrive, pair: tuple[int, int]) -> float:
    first, second = loop.world_from_camera[list(pair), :3, 3]
    return float(np.linalg.norm(first - second))


def _errors(fused: Fused, loop: LoopDrive, rig: bool) -> Row:
    """After the similarity that fits best; with a known rig, whose lengths are metres, after the best rigid motion.

    drift %: error of the motion over stretches of 100 m of the way, over 100 m. end %: of the last camera where the
    first ones are laid on each other, over the way.
    """
    true = loop.world_from_camera[:: loop.cameras]
    aligned = align_trajectory(
        fused.world_from_camera[:: loop.cameras], true, "se3" if rig else "sim3"
    ).world_from_camera
    errors = absolute_errors(aligned, true)
    at_start = true[0] @ rigid.invert(aligned[0]) @ aligned
    return {
        "ATE m": float(np.sqrt(np.mean(errors**2))),
        "turn deg": float(np.sqrt(np.mean(absolute_errors(aligned, true, "rot_deg") ** 2))),
        "drift %": 100 * _drift(aligned, true),
        "end %": 100 * float(np.linalg.norm(at_start[-1, :3, 3] - true[-1, :3, 3])) / loop.length,
    }


def _drift(aligned: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"]) -> float:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1))])
    last = np.searchsorted(along, along + _STRETCH)
    first = np.flatnonzero(last < len(along))
    last = last[first]
    motions = [rigid.invert(poses[first]) @ poses[last] for poses in (aligned, true)]
    off = np.linalg.norm((rigid.invert(motions[1]) @ motions[0])[:, :3, 3], axis=-1)
    return float(np.mean(off / (along[last] - along[first]))) if len(first) else float("nan")


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
