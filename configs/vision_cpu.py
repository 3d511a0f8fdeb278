"""Entry point of rig3r_jax/configs/vision_cpu.py, which says what it is and what it takes."""

from rig3r_jax.configs.vision_cpu import get_config as get_config
