"""A driving world made on the fly: rigs of cameras, exact depth, poses, calibration and times, all from one seed."""

from rig3r_jax.data.sources.procedural.scenes import SPLITS, scene_loaders, splits

__all__ = ["SPLITS", "scene_loaders", "splits"]
