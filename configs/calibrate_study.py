"""Entry point of rig3r_jax/configs/calibrate_study.py, which says what it is and what it takes."""

from rig3r_jax.configs.calibrate_study import get_config as get_config
