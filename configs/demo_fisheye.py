"""Entry point of rig3r_jax/configs/demo_fisheye.py, which says what it is and what it takes."""

from rig3r_jax.configs.demo_fisheye import get_config as get_config
