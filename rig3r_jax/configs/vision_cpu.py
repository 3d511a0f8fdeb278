"""vision.py at a size for two CPU cores: the same worlds, sampling and losses, fewer kinds of rigs, a smaller network.

Command:   rig3r train --config=vision_cpu
Hardware:  2 CPU cores
Time:      about 22 minutes, reckoned from half a run on an AMD EPYC with AVX2: 4 for the worlds (once), 80 ms a step
Expected:  docs/results.md, "A model that sees", says what half of it has come to: far less than is wanted of images

Its rival, a network that is trained on blank images, and what the images add, with intervals:

    rig3r train --config=vision_cpu --config.sampling.blank_images=True --workdir=runs/vision_blank
    rig3r evaluate --compare runs/vision_blank runs/vision_cpu
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import vision

TRAIN_WORLDS = 1600


def get_config() -> ConfigDict:
    config = vision.get_config()
    config.name = "vision_cpu"
    config.title = "A small Rig3R that sees, on procedural towns"

    options = config.data.mixture[0].options
    options.train_worlds = options.fixed_rigs = TRAIN_WORLDS
    options.layouts = ("surround",)
    options.min_cameras, options.max_cameras = 3, 6
    options.lenses = "pinhole"
    options.steps = 4
    options.image_size = 64
    config.sampling.num_views = 6
    config.sampling.image_size = 64
    config.sampling.grids = ((2, 3), (3, 2))
    config.sampling.max_stride = 1
    for change in ("brightness", "contrast", "saturation", "hue"):
        config.sampling[change] = 0.0
    config.data.threads = 1
    config.data.cache_gigabytes = 2.0

    config.model.variant = "tiny"
    del config.model.encoder_depth, config.model.decoder_depth  # those of the variant
    config.model.patch = 16
    config.model.point_head = "linear"
    config.model.points_per_patch = 4
    config.model.attention = "dense"
    config.model.dtype = "float32"

    config.optimizer.learning_rate = 2e-3
    config.optimizer.end_learning_rate = 2e-5

    config.train.steps = 12_000
    config.train.batch_size = 8
    config.train.accumulate = 1
    config.train.checkpoint_every = 2_000
    return config
