"""Every number of a system's scores: its group, its title, its unit and which way is better."""

import dataclasses
import math

from rig3r_jax.evaluation import auc
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.pairs import DEGREES, part_names

PERCENT, METRES, DEGREE, COUNT, PLAIN = "%", "m", "deg", "", " "
_PLACES = {PERCENT: 1, METRES: 4, DEGREE: 3, COUNT: 0, PLAIN: 3}
UP, DOWN = "higher is better", "lower is better"


@dataclasses.dataclass(frozen=True)
class Score:
    """One row of the tables."""

    key: str  # of the measures
    title: str
    unit: str
    better: str = ""  # UP, DOWN, or neither
    brief: bool = True  # in tables for people; files for programs have all

    @property
    def places(self) -> int:
        return _PLACES[self.unit]

    @property
    def bounds(self) -> tuple[float, float]:
        """Of what the number can be."""
        if self.key == "rig_ari":
            return -1.0, 1.0
        return 0.0, 100.0 if self.unit == PERCENT else math.inf


def catalog(options: SystemOptions) -> dict[str, list[Score]]:
    """The scores of each group, in the order of the tables."""
    percents = [
        Score(f"AUC{limit}_{name}", f"AUC@{limit} {name}", PERCENT, UP)
        for name in auc.PROTOCOLS
        for limit in auc.LIMITS
    ]
    groups = {
        "counts": [
            Score("images", "images", COUNT),
            Score("images_missing", "images without a predicted pose", COUNT),
            Score("images_elsewhere", "predicted images that the truth lacks", COUNT),
            Score("pairs", "pairs", COUNT),
            Score("pairs_without_direction", "pairs without a direction", COUNT),
        ],
        "relative poses, all pairs": [*_rates(""), *percents],
    }
    groups |= {f"relative poses, {name}": _rates(f"{name}/") for name in part_names(options)}
    coverages = [Score(f"coverage_{level}", f"within {level[0]} sigma", PERCENT) for level in CENTRAL_LEVELS]
    return groups | {
        "trajectory and scale": [
            Score("ATE_m", "ATE", METRES, DOWN),
            Score("ATE_rot_deg", "ATE rotation", DEGREE, DOWN),
            Score("RPE_m", "RPE", METRES, DOWN),
            Score("RPE_rot_deg", "RPE rotation", DEGREE, DOWN),
            Score("scale_error_percent", "scale error, % of true lengths", PLAIN, DOWN),
        ],
        "lenses and rigs": [
            Score("focal_error_percent", "focal error, % of the true one", PLAIN, DOWN),
            Score("rig_id_accuracy", "rig ID accuracy", PERCENT, UP),
            Score("rig_ari", "rig ARI", PLAIN, UP),
            Score("camera_count_error", "cameras too many or too few", PLAIN, DOWN),
            Score("rig_mAA30", "rig mAA30", PERCENT, UP),
            Score("rig_mAA30_unfolded", "rig mAA30*", PERCENT, UP),
            Score("rig_RRA15", "rig RRA@15", PERCENT, UP),
            Score("rig_RTA15", "rig RTA@15", PERCENT, UP),
        ],
        "depth": [
            Score("depth_abs_rel", "AbsRel", PLAIN, DOWN),
            Score("depth_delta_103", "delta < 1.03", PERCENT, UP),
            Score("depth_delta1", "delta < 1.25", PERCENT, UP),
            Score("depth_delta2", "delta < 1.25^2", PERCENT, UP),
            Score("depth_abs_rel_median", "AbsRel, median scale", PLAIN, DOWN),
            Score("depth_delta1_median", "delta < 1.25, median scale", PERCENT, UP),
            Score("depth_coverage", "true points with a predicted depth", PERCENT),
            Score("depth_maps_left_out", "depth maps of another kind, without lenses, left out", COUNT, brief=False),
        ],
        "points": [
            Score("accuracy_m", "accuracy", METRES, DOWN),
            Score("completeness_m", "completeness", METRES, DOWN),
            Score("chamfer_m", "Chamfer", METRES, DOWN),
            *(Score(f"fscore_{t:g}m", f"F-score at {t:g} m", PERCENT, UP) for t in options.thresholds),
        ],
        "uncertainty": [
            Score("d2_trans", "d2 of translation (3 is right)", PLAIN),
            Score("d2_rot", "d2 of rotation (3 is right)", PLAIN),
            Score("d2_pose", "d2 of both (6 is right)", PLAIN),
            *coverages,
        ],
    }


def _rates(prefix: str) -> list[Score]:
    """Of all pairs, or of a part of them, whose tables are shorter."""
    scores = []
    for name, end in (("RRA", ""), ("RTA", ""), ("RTA", "_unfolded")):
        for degrees in DEGREES:
            brief = not prefix or degrees in (5, 15)
            title = f"{name}@{degrees}{'*' if end else ''}"
            scores.append(Score(f"{prefix}{name}{degrees}{end}", title, PERCENT, UP, brief))
    means = [Score(f"{prefix}mAA30{end}", f"mAA30{star}", PERCENT, UP) for end, star in (("", ""), ("_unfolded", "*"))]
    return scores + means
