"""A Rig3R of 26 million parameters that has to see: towns with turns, night and traffic, at 128 pixels, on one GPU.

Command:   rig3r train --config=vision; on a card that is at hand for minutes: sh launch/gpu_train.sh OUT
Hardware:  one GPU of 80 GB and 16 CPU cores
Time:      reckoned, not measured: 2 minutes for the worlds, 6 for training, 1 for the evaluation
Expected:  not measured; vision_cpu.py is the same recipe at a size for two CPU cores

What makes images count, against demo.py: worlds=2, in which straight driving is no good guess; a rig of its own in
every training world, so that no rig can be learnt by heart; and metadata hidden more often than not. A network that is
trained on blank images is what it is to be read against:

    rig3r train --config=vision --config.sampling.blank_images=True --workdir=runs/vision_blank
    rig3r evaluate --compare runs/vision_blank runs/vision
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base

TRAIN_WORLDS = 2600


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "vision"
    config.title = "A Rig3R that sees, on procedural towns"

    config.data.mixture = [
        base.dataset(
            "procedural",
            worlds=2,
            train_worlds=TRAIN_WORLDS,
            test_worlds=128,
            fixed_rigs=TRAIN_WORLDS,  # a rig for each world
            min_cameras=2,
            lenses="mixed",
            steps=6,
            interval=0.25,
            image_size=128,
        )
    ]
    config.data.records = "runs/records"
    config.sampling.num_views = 12
    config.sampling.image_size = 128
    config.sampling.grids = ((2, 6), (3, 4), (4, 3), (6, 2))  # time steps x cameras
    config.sampling.max_stride = 2
    config.sampling.metadata_dropout = 0.7
    config.sampling.aspect_range = (1.0, 1.0)
    config.sampling.crop_scale_range = (1.0, 1.0)
    config.sampling.blur_probability = 0.0
    config.data.threads = 16
    config.data.cache_gigabytes = 8.0

    config.model.variant = "small"
    config.model.encoder_depth = 4  # 26.2 million parameters, 52 MB in bfloat16
    config.model.decoder_depth = 6
    config.model.patch = 8  # 256 tokens an image: the loader keeps up with a card that has so much to do for each
    config.model.points_per_patch = 8
    config.model.rays_per_patch = 1
    config.model.dpt_features = 64
    config.model.dpt_last = 32
    config.model.dpt_chunk = 12
    config.model.remat = "none"
    config.model.unroll = True

    config.loss.lambda_pose = 2.0

    config.optimizer.learning_rate = 5e-4
    config.optimizer.end_learning_rate = 5e-6
    config.optimizer.warmup_steps = 200
    config.optimizer.ema_decay = 0.998

    config.train.steps = 1_600
    config.train.batch_size = 64
    config.train.accumulate = 2  # the noise scale is told by the gradients of the halves
    config.train.checkpoint_every = 400
    config.train.keep_checkpoints = 1
    config.train.event_writer = "tensorboard"

    config.evaluation.sets = ("same_rigs", "unseen_rigs")
    config.evaluation.samples = 128
    config.evaluation.batch_size = 64
    config.evaluation.known_intrinsics = True
    return config
