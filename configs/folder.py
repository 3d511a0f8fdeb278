"""Entry point of rig3r_jax/configs/folder.py, which says what it is and what it takes."""

from rig3r_jax.configs.folder import get_config as get_config
