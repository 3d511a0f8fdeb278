"""A small Rig3R on real photographs, LiDAR and calibration in the DGP/DDAD format.

Command:   python main.py --config=configs/ddad.py --config.data.root=FOLDER
           FOLDER holds scene_dataset*.json and the scenes; records are built under the workdir
Hardware:  2 CPU cores
Time:      about 4 minutes
Expected:  on a sample of a few time steps the loss falls far below its start: the network learns these images by heart.
           It proves the road from files to report on real calibration, LiDAR and photographs, not generalisation.
"""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("rig3r_base_config", Path(__file__).with_name("base.py"))
base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(base)


def get_config():
    config = base.get_config()
    config.name = "ddad"
    config.title = "A small Rig3R on real rig data (DGP format)"
    config.notes = (
        "Overfitting on purpose: the network is evaluated on the very scenes that it was trained on. "
        "The page proves that real calibration, LiDAR and photographs pass through the whole road; "
        "it says nothing about new places.",
    )
    config.data.root = ""  # the folder of the data set
    config.data.mixture = [base.dataset("ddad", root=config.data.get_ref("root"))]
    config.data.threads = 2
    config.data.cache_gigabytes = 2.0
    config.data.prefetch = 8

    config.sampling.num_views = 6
    config.sampling.image_size = 96
    config.sampling.grids = ((2, 3), (3, 2))
    config.sampling.max_stride = 1
    config.sampling.aspect_range = (1.0, 1.0)
    config.sampling.crop_scale_range = (0.8, 1.0)

    config.model.variant = "tiny"
    config.model.point_head = "linear"
    config.model.points_per_patch = 8
    config.model.rays_per_patch = 1
    config.model.attention = "dense"
    config.model.remat = "none"
    config.model.unroll = True
    config.model.dtype = "float32"

    config.optimizer.learning_rate = 2e-3
    config.optimizer.end_learning_rate = 2e-5
    config.optimizer.warmup_steps = 50

    config.train.steps = 600
    config.train.batch_size = 4
    config.train.log_every = 20
    config.train.checkpoint_every = 200

    config.evaluation.sets = ("train",)
    config.evaluation.samples = 16
    config.evaluation.batch_size = 16
    config.evaluation.known_intrinsics = True
    return config
