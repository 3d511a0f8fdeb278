"""A small Rig3R on procedural rigs, from nothing to a report on a CPU.

Command:   rig3r train --config=demo   (`make demo` sets everything up first)
Hardware:  2 CPU cores
Time:      about 2 minutes for the data (once), 5 for training, 20 seconds for evaluation and report
Expected:  the table in README.md
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "demo"
    config.title = "A small Rig3R on procedural rigs"

    config.data.mixture = [
        base.dataset(
            "procedural",
            train_worlds=2000,
            test_worlds=200,
            fixed_rigs=8,
            min_cameras=3,
            max_cameras=6,
            layouts=("surround",),
            steps=8,
            image_size=64,
        )
    ]
    config.data.records = "runs/records"
    config.sampling.num_views = 6
    config.sampling.image_size = 64
    config.sampling.grids = ((2, 3), (3, 2))
    config.sampling.max_stride = 2
    config.sampling.aspect_range = (1.0, 1.0)
    config.sampling.crop_scale_range = (1.0, 1.0)
    for change in ("brightness", "contrast", "saturation", "hue", "blur_probability"):
        config.sampling[change] = 0.0
    config.data.threads = 1
    config.data.cache_gigabytes = 2.0

    config.model.variant = "tiny"
    config.model.point_head = "linear"
    config.model.points_per_patch = 4
    config.model.rays_per_patch = 1
    config.model.attention = "dense"
    config.model.remat = "none"
    config.model.unroll = True
    config.model.dtype = "float32"

    config.optimizer.learning_rate = 2e-3
    config.optimizer.end_learning_rate = 2e-5
    config.optimizer.warmup_steps = 200

    config.train.steps = 10_000
    config.train.batch_size = 8
    config.train.checkpoint_every = 1_000

    config.evaluation.sets = ("same_rigs", "unseen_rigs")
    config.evaluation.samples = 200
    config.evaluation.batch_size = 40
    config.evaluation.known_intrinsics = True
    return config
