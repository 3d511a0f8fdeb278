"""A small Rig3R on a folder of your own (docs/your_rig.md): a first run, to see that everything is read right.

Command:   rig3r train --config=folder --config.data.root=FOLDER
           FOLDER is what `rig3r build-data folder --root FOLDER` takes, and what `rig3r example-rig FOLDER` makes
Hardware:  2 CPU cores
Time:      about 2 minutes
Expected:  on a handful of drives the training loss falls to a fraction of its start; new places want more data
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base, demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "folder"
    config.title = "A small Rig3R on a folder of its user"
    config.data.root = ""  # the folder: images/<camera>/, calibration, poses; or several of these
    config.data.mixture = [base.dataset("folder", root=config.data.get_ref("root"))]
    config.data.records = ""

    config.sampling.image_size = 96
    config.sampling.grids = ()
    config.model.points_per_patch = 8
    config.optimizer.warmup_steps = 50

    config.train.steps = 300
    config.train.batch_size = 4
    config.train.log_every = 20
    config.train.checkpoint_every = 150

    config.evaluation.sets = ("validation",)
    config.evaluation.samples = 16
    config.evaluation.batch_size = 16
    return config
