"""Entry point of rig3r_jax/configs/uncertainty_backbone.py, which says what it is and what it takes."""

from rig3r_jax.configs.uncertainty_backbone import get_config as get_config
