"""Rig3R in JAX: poses, rays and points of many cameras on a rig, from images and whatever is known of the rig.

Importing the package loads nothing else: each room is imported by name (`from rig3r_jax.geometry import se3`).

    model = rig3r_jax.load("demo")  # comes with the package; or a workdir: "runs/demo"
    result = model.reconstruct("photos/", rig="rig_config.json")
"""

__version__ = "0.1.0"


def load(path):
    """The model of a path (str or pathlib.Path), to reconstruct with: see `inference.api.load` and docs/python.md."""
    import rig3r_jax.inference.api

    return rig3r_jax.inference.api.load(path)
