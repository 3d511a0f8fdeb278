"""d2, squared error over predictive variance: its parts, target, the band that is called calibrated, and its metrics.

Nothing heavy is imported, so that charts can take their words from here.
"""

import math

DIMENSIONS = ("v_x", "v_y", "v_z", "w_x", "w_y", "w_z")
NAMES = {"trans": "translation", "rot": "rotation", "pose": "both"}  # of the parts of a tangent (v, w)
UNITS = {"trans": "m", "rot": "rad"}
CENTRAL_LEVELS = {f"{k}sigma": math.erf(k / math.sqrt(2.0)) for k in (1, 2, 3)}  # 68.3, 95.4, 99.7 percent
TARGET = 3.0  # of three components under variances that are learnt from the residuals themselves
WINDOWS = 100  # that a windowed d2 is the mean of; a single window is noise
UNDER, CALIBRATED, OVER = "under-confident", "calibrated", "over-confident"
_BAND = 0.5 / 3.0  # 2.5..3.5 at a target of 3, and in proportion

# Metrics of a training, {part}: trans or rot.
STEP_METRIC = "calibration/predictive_d2_{part}"  # mean over one step's windows
WINDOWED_METRIC = "calibration/windowed_d2_{part}"  # mean over the last WINDOWS windows or a few more; NaN of fewer
RAW_METRIC = "calibration/d2_{part}_mean"  # r^2 exp(-log variance): TARGET is that of a Gaussian law alone


def band(target: float = TARGET, components: int = 3) -> tuple[float, float]:
    """The means that are called calibrated, both ends included.

    A target below the number of components moves the lower end only: variances of errors before the scale is fitted
    meet the target, those learnt from residuals after it meet the number of components, and both are right.
    """
    return target * (1 - _BAND), components * (1 + _BAND)


def status(mean: float, target: float = TARGET, components: int = 3) -> str:
    """Where a mean lies; below the band sigma is too large: under-confident. A dash for NaN."""
    low, high = band(target, components)
    return "-" if math.isnan(mean) else UNDER if mean < low else OVER if mean > high else CALIBRATED
