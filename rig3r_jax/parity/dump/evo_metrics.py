"""golden/evo_metrics: absolute and relative trajectory errors of the evo package against evaluation.trajectory."""

import re
from collections.abc import Iterator

import numpy as np

from rig3r_jax.evaluation import trajectory
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.parity.dump.rows import Ours, Results, cases, compare_arrays

FILE = "evo.npz"
_METRIC = re.compile(r"(ape|rpe)_(trans|rot_deg|full)(?:_d(\d+)(_all)?)?")
# Errors are differences of poses: those of a perfect trajectory are rounding. Below this part of what they are
# differences of (the largest coordinate, half a turn), they are compared with it rather than with themselves.
_FLOOR = 1e-4


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Every trajectory `<name>/{gt,est}_c2w`, under every alignment and metric found beside it."""
    archive = dump.needed(FILE)
    for case in cases(archive, "/gt_c2w"):
        true, estimated = archive[f"{case}/gt_c2w"], archive[f"{case}/est_c2w"]
        for alignment in trajectory.ALIGNMENTS:
            if names := archive.below(prefix := f"{case}/{alignment}/"):
                metrics = dict.fromkeys(name.split("/")[0] for name in names)
                yield from compare_arrays(dump, FILE, _aligned(estimated, true, alignment, metrics), prefix)


def _aligned(estimated: np.ndarray, true: np.ndarray, alignment: str, metrics: dict[str, None]) -> Results:
    """The alignment, and the errors and statistics of those metrics whose names are known."""
    aligned = trajectory.align_trajectory(estimated, true, alignment)
    length = _FLOOR * float(np.abs(true[:, :3, 3]).max())
    ours: Results = {"est_aligned_c2w": aligned.world_from_camera}
    if aligned.fit is not None:
        ours["align_R"], ours["align_s"] = aligned.fit.rotation, aligned.fit.scale
        ours["align_t"] = Ours(aligned.fit.translation, floor=length)
    for metric, match in ((metric, _METRIC.fullmatch(metric)) for metric in metrics):
        if match is None:
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
