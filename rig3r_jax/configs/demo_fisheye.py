"""The demo through fisheyes: the worlds, drives and mounts of demo.py, seen by Kannala-Brandt lenses of 180 degrees.

Command:   rig3r train --config=demo_fisheye
Hardware:  2 CPU cores
Time:      that of demo.py, and about a third more for the data
Expected:  the report and tables of demo.py's kind; cameras are recovered with the lenses known. The same command with
           --config.evaluation.known_intrinsics=False evaluates again, with lenses fitted to the predicted rays
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "demo_fisheye"
    config.title = "A small Rig3R on procedural fisheye rigs"
    config.data.mixture[0].options.lenses = "fisheye"
    return config
