"""Entry point of rig3r_jax/configs/uncertainty_recipe.py, which says what it is and what it takes."""

from rig3r_jax.configs.uncertainty_recipe import get_config as get_config
