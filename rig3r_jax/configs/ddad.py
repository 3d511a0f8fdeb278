"""The demo's small Rig3R on real photographs, LiDAR and calibration in the DGP/DDAD format.

Command:   rig3r train --config=ddad --config.data.root=FOLDER
           FOLDER holds scene_dataset*.json and the scenes; records are built under the workdir
Hardware:  2 CPU cores
Time:      about 3 minutes, most of it decoding photographs of 1936x1216
Expected:  on a sample of a few time steps the errors fall far below their start: the network memorises these
           images. It shows that everything from files to report works on real calibration, LiDAR and photographs.
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base, demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "ddad"
    config.title = "A small Rig3R on real rig data (DGP format)"
    config.notes = (
        "Overfitting on purpose: the network is evaluated on the very scenes that it was trained on. "
        "The page shows that everything from files to report works on real calibration, LiDAR and photographs; "
        "it says nothing about new places.",
    )
    config.data.root = ""  # the folder of the data set
    config.data.mixture = [base.dataset("ddad", root=config.data.get_ref("root"))]
    config.data.records = ""
    config.data.threads = 2

    config.sampling.image_size = 96
    config.sampling.max_stride = 1
    config.sampling.crop_scale_range = (0.8, 1.0)
    config.sampling.brightness = 0.2
    config.sampling.contrast = 0.2
    config.model.points_per_patch = 8
    config.optimizer.warmup_steps = 50

    config.train.steps = 500
    config.train.batch_size = 4
    config.train.log_every = 20
    config.train.checkpoint_every = 250

    config.evaluation.sets = ("train",)
    config.evaluation.samples = 16
    config.evaluation.batch_size = 16
    return config
