"""The windows that a run of uncertainty keeps in its workdir, and the length unit that they tell of."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rig3r_jax.geometry import se3
from rig3r_jax.geometry.residual import relative_to_first, window_scale
from rig3r_jax.uncertainty.features import kept_cameras

SPLITS = ("train", "validation", "test")
FEATURES = "features"  # folder in the workdir


def features_folder(config: ConfigDict, workdir: Path) -> Path:
    """Where the pools of a run are kept."""
    return Path(config.data.features) if config.data.features else Path(workdir) / FEATURES


def metres_per_unit(config: ConfigDict, workdir: Path, digest: str) -> float | None:
    """Metres over the length unit of a head's backbone: the median over the windows that the head was trained on.

    `digest` is the backbone's. None where these windows are kept no more, or are of another backbone.
    """
    cameras = kept_cameras(features_folder(config, workdir) / f"{SPLITS[0]}.npz", digest)
    if cameras is None:
        return None
    predicted, true = (se3.translation(relative_to_first(jnp.asarray(x))) for x in (cameras[0][-1], cameras[1]))
    return float(np.median(window_scale(predicted, true, config.nll.min_translation).scale))
