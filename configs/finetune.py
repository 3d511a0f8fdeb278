"""Entry point of rig3r_jax/configs/finetune.py, which says what it is and what it takes."""

from rig3r_jax.configs.finetune import get_config as get_config
