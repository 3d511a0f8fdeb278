"""The pose uncertainty head, trained steadily: the same as configs/uncertainty.py but for what get_config() names.

Command:   rig3r train --config=uncertainty_recipe --config.backbone.path=vggt.safetensors
               '--config.data.mixture[0].root=/data/rgbd_dataset_freiburg1_desk'
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import uncertainty


def get_config() -> ConfigDict:
    config = uncertainty.get_config()
    config.name = "uncertainty_recipe"
    config.head.init = "mle"  # no error of the start has to be unlearnt
    config.train.batch_size = 10  # a single window is noise
    config.train.log_every = 10
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup_steps = 50
    config.optimizer.end_learning_rate = 1e-6  # the last steps average
    config.optimizer.clip_norm = 2.0
    config.nll.parameterisation = "cholesky"  # errors of rotation and translation go together
    config.nll.likelihood = "student_t"  # errors have heavier tails than a Gaussian
    config.nll.dof = 8.0
    return config
