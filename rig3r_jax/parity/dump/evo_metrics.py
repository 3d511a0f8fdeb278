"""golden/evo_metrics: absolute and relative trajectory errors of the evo package against evaluation.trajectory."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from rig3r_jax.evaluation import trajectory
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, compare_arrays

FILE = "evo.npz"
_METRIC = re.compile(r"(ape|rpe)_(trans|rot_deg|full)(?:_d(\d+)(_all)?)?")
# Errors are differences of poses: those of a perfect trajectory are rounding. Below this part of what they are
# differences of (the largest coordinate, half a turn), they are compared with it rather than with themselves.
_FLOOR = 1e-4


def compare_folder(dump: Dump, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """Every trajectory `<name>/{gt,est}_c2w`, under every alignment and metric found beside it."""
    archive = dump.needed(FILE)
    for case in [name.removesuffix("/gt_c2w") for name in archive if name.endswith("/gt_c2w")]:
        true, estimated = archive[f"{case}/gt_c2w"], archive[f"{case}/est_c2w"]
        below = [name.split("/") for name in archive.below(f"{case}/")]
        for alignment in dict.fromkeys(parts[0] for parts in below if len(parts) > 1):
            prefix = f"{case}/{alignment}/"
            if alignment in trajectory.ALIGNMENTS:
                ours = _aligned(archive, prefix, estimated, true, alignment)
                yield from compare_arrays(dump, FILE, {prefix + key: value for key, value in ours.items()}, tolerance)


def _aligned(archive: Archive, prefix: str, estimated: np.ndarray, true: np.ndarray, alignment: str) -> dict[str, Any]:
    """Our numbers by what follows `prefix` in the names."""
    aligned = trajectory.align_trajectory(estimated, true, alignment)
    length = _FLOOR * float(np.abs(true[:, :3, 3]).max())
    ours: dict[str, Any] = {"est_aligned_c2w": aligned.world_from_camera}
    if aligned.fit is not None:
        ours["align_R"], ours["align_s"] = aligned.fit.rotation, aligned.fit.scale
        ours["align_t"] = Ours(aligned.fit.translation, floor=length)
    for metric in dict.fromkeys(name.split("/")[0] for name in archive.below(prefix)):
        if not (match := _METRIC.fullmatch(metric)):
            continue
        kind, part, delta, every = match.groups()
        if kind == "ape":
            errors = trajectory.absolute_errors(aligned.world_from_camera, true, part)
        else:
            errors = trajectory.relative_errors(aligned.world_from_camera, true, part, int(delta or 1), bool(every))
        floor = _FLOOR * 180.0 if part == "rot_deg" else length
        ours[f"{metric}/errors"] = Ours(errors, floor=floor)
        for name, value in trajectory.statistics(errors).items():
            ours[f"{metric}/{name}"] = Ours(value, floor=floor**2 if name == "sse" else floor)
    return ours
