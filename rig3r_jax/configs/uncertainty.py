"""A pose uncertainty head on a frozen backbone: VGGT's head on TUM RGB-D freiburg1_desk, the plain training.

Command:   rig3r train --config=uncertainty --config.backbone.path=vggt.safetensors
               '--config.data.mixture[0].root=/data/rgbd_dataset_freiburg1_desk'
           backbone.path is a file of `rig3r convert vggt`, or the workdir of a Rig3R run
Hardware:  what the backbone needs for one window of 8 images; the head itself trains on anything
Time:      the backbone passes 6,000 windows once; then 500 steps take seconds
Expected:  calibration.md and charts/ in the workdir. configs/uncertainty_recipe.py trains more steadily.
"""

import dataclasses

from ml_collections import ConfigDict

from rig3r_jax.configs import base
from rig3r_jax.data.options import WindowOptions


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "uncertainty"
    config.title = "Pose uncertainty"
    config.task = "uncertainty"
    for section in ("sampling", "model", "loss", "evaluation"):  # they are the backbone's, or have no meaning here
        del config[section]
    del config.data.split, config.data.max_scenes, config.train.skip_spikes, config.train.spike_window

    backbone = config.backbone = ConfigDict()
    backbone.path = ""  # workdir of a Rig3R run, or a file of `rig3r convert vggt`
    backbone.batch_size = 8  # windows that pass it at a time
    backbone.image_size = 518  # pixels, VGGT's only: images are padded to a square
    backbone.metadata = "all"  # Rig3R's only: what it is told of a window; a row of its evaluation, or "as trained"

    blocks = {"fractions": (0.7, 0.15, 0.15), "gap": 0, "min_frames": 8, "window": 1000}  # train, validation, test
    config.data.mixture = [
        base.dataset("tum", intrinsics="by_name", **blocks),
        base.dataset("sevenscenes", weight=0.0, **blocks),
    ]
    config.data.cache_gigabytes = 4.0
    config.data.features = ""  # folder of what the backbone says of the pools; "" is <workdir>/features

    windows = config.windows = ConfigDict(dataclasses.asdict(WindowOptions()))  # data/options.py explains these keys
    windows.splits = ("train", "validation", "test")  # of the sources
    windows.counts = (2000, 2000, 2000)  # windows of each
    windows.seed = 0  # of the pools; config.seed is that of the head and its batches

    nll = config.nll = ConfigDict()  # losses.pose_nll.NllOptions
    nll.parameterisation = "log_variance"  # or sqrt_information, cholesky
    nll.likelihood = "gaussian"  # or laplace, student_t
    nll.dof = 5.0  # of student_t
    nll.gamma = 0.6  # weight of a refinement against that of the next
    nll.motion_weighting = "none"  # or gt_trans_norm, valid_count
    nll.log_variance_penalty = 0.0
    nll.prior_weight = 0.0  # of log(1 / sigma) at log(prior_sqrt_info)
    nll.prior_sqrt_info = 10.0
    nll.log_var_clamp = (-20.0, 20.0)
    nll.sqrt_info_clamp_trans = (0.1, 100.0)  # 1 / metre
    nll.sqrt_info_clamp_rot = (0.1, 200.0)  # 1 / radian
    nll.min_translation = 0.02  # metres: nearer frames say nothing about a window's scale

    head = config.head = ConfigDict()
    head.init = "default"  # mle: start at the most likely variances of the training residuals
    head.lower_after = 0  # steps after which the learning rate is multiplied by lower_factor; 0: never
    head.lower_near = 0.0  # the same from when windowed d2 are this near to 3; 0: never
    head.lower_factor = 0.1
    head.stop_near = 0.0  # training ends when windowed d2 have been this near to 3 for stop_patience steps; 0: never
    head.stop_patience = 100

    optimizer = config.optimizer
    optimizer.learning_rate = 1e-4  # for 2,048 features, VGGT's: times 2048 / width for others
    optimizer.end_learning_rate = 1e-4  # constant
    optimizer.warmup_steps = 0
    optimizer.b2 = 0.999
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 0.0  # none

    config.train.steps = 500
    config.train.batch_size = 1  # windows
    config.train.log_every = 1
    config.train.checkpoint_every = 100

    evaluation = config.evaluation = ConfigDict()
    evaluation.enabled = True
    evaluation.trajectories = 8  # held-out sequences that become pose graphs, at most
    evaluation.overlap = 0.5  # of neighbouring windows of a trajectory
    return config
