"""Tiny models of every family on disk, with random parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rig3r_jax.configs import calibrate_study
from rig3r_jax.schema import Views
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.state import fresh_state
from rig3r_jax.uncertainty.backbone import DIGEST_FILE, open_backbone
from rig3r_jax.uncertainty.features import WindowFeatures, save
from rig3r_jax.uncertainty.head import abstract_params
from rig3r_jax.uncertainty.objective import nll_options

FIELDS = {
    "width": 64, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3], "encoder_depth": 1, "encoder_heads": 1,
    "camera_heads": 2, "trunk_depth": 1, "iterations": 4, "patch": 8, "registers": 2, "encoder_registers": 2,
    "position_grid": 4, "dpt_features": 8, "dpt_last": 4, "dpt_widths": [4, 8, 4, 12],
    "outputs": ["camera", "depth", "points"], "log_variance": True,
}  # fmt: skip
SCALE = 4.0  # metres over lengths of the windows that heads are told of


def views_of(count, height, width, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (1, count, height, width, 3), dtype=np.uint8)
    return jax.tree.map(lambda leaf: leaf[0], Views.of_images(images))


def keep(workdir, state):
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(2, state, {"seed": 0, "next_sample": 0})
    checkpoints.wait()
    checkpoints.close()


def uncertainty_run(workdir, backbone, **nll):
    """A workdir of a head with random parameters, whose windows' lengths are SCALE times the backbone's."""
    workdir.mkdir()
    config = calibrate_study.get_config()
    config.backbone.path, config.backbone.image_size = str(backbone), 32
    config.nll.update({"parameterisation": "cholesky", "likelihood": "gaussian", **nll})
    save_config(config, workdir / "config.json")
    opened = open_backbone(config.backbone)
    (workdir / DIGEST_FILE).write_text(opened.digest)
    rng = np.random.default_rng(1)
    shapes = abstract_params(opened.width, nll_options(config))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), shapes)
    keep(workdir, fresh_state(params, optax.identity(), keep_ema=False))
    predicted = np.tile(np.eye(4, dtype=np.float32), (1, 3, 4, 1, 1))
    predicted[..., :3, 3] = rng.normal(size=(1, 3, 4, 3))
    true = predicted[-1].copy()
    true[..., :3, 3] *= SCALE
    features = np.zeros((1, 3, 4, opened.width), np.float32)
    windows = WindowFeatures(features, predicted, true, ("a", "b", "c"))
    (workdir / "features").mkdir()
    save(windows, workdir / "features" / "train.npz", {"backbone": opened.digest})
    return workdir
