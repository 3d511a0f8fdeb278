"""Rig3R in JAX: poses, rays and points of many cameras on a rig, from images and whatever is known of the rig.

Importing the package loads nothing else: each room is imported by name (`from rig3r_jax.geometry import se3`).
"""

__version__ = "0.1.0"
