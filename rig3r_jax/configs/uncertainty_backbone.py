"""The small Rig3R whose pose uncertainty `rig3r calibrate-study` learns: windows of 8 images, some of one camera alone.

Command:   rig3r train --config=uncertainty_backbone
Hardware:  2 CPU cores
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base, demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "uncertainty_backbone"
    config.title = "A small Rig3R for pose uncertainty"
    config.data.mixture = [
        base.dataset(
            "procedural",
            train_worlds=800,
            test_worlds=40,
            fixed_rigs=400,  # so that no set of cameras is memorised
            min_cameras=3,
            max_cameras=6,
            layouts=("surround",),
            steps=16,
            interval=0.05,  # 20 images per second, as of a camera in the hand
            image_size=64,
        )
    ]
    config.sampling.num_views = 8
    config.sampling.grids = ((8, 1), (4, 2), (2, 4))
    config.train.steps = 3_000
    config.evaluation.samples = 40
    config.evaluation.baselines = False
    return config
