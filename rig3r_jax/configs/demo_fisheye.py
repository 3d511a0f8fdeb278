"""The demo through fisheyes: the worlds, drives and mounts of demo.py, seen by Kannala-Brandt lenses of 180 degrees.

Command:   rig3r train --config=demo_fisheye
Hardware:  2 CPU cores
Time:      about 2 minutes for the data (once), 6 for training, 30 seconds for evaluation and report
Expected:  the tables in docs/results.md, with the lenses known, and with them fitted to the predicted rays
           (--config.evaluation.known_intrinsics=False)
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "demo_fisheye"
    config.title = "A small Rig3R on procedural fisheye rigs"
    config.data.mixture[0].options.lenses = "fisheye"
    return config
