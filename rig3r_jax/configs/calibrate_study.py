"""The windows of `rig3r calibrate-study`: drives of one camera through procedural worlds, for a small Rig3R.

Command:   rig3r calibrate-study runs/study
           rig3r train --config=calibrate_study --config.backbone.path=runs/study/backbone
Hardware:  2 CPU cores
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base, uncertainty_recipe


def get_config() -> ConfigDict:
    config = uncertainty_recipe.get_config()
    config.name = "calibrate_study"
    config.title = "Pose uncertainty of a small Rig3R"
    config.data.mixture = [
        base.dataset(
            "procedural",
            seed=1,  # other worlds than the backbone's
            train_worlds=1200,
            test_worlds=800,
            fixed_rigs=800,  # cameras of the test worlds are new, of the same kinds
            min_cameras=1,
            max_cameras=1,
            layouts=("single",),
            steps=16,
            interval=0.05,
            image_size=64,
        )
    ]
    config.data.threads = 1
    config.data.cache_gigabytes = 2.0
    config.windows.splits = ("train", "same_rigs", "unseen_rigs")
    config.windows.counts = (2400, 2400, 2400)
    config.windows.reach = 7  # spans that the backbone was trained on
    config.backbone.batch_size = 40
    config.backbone.metadata = "all"  # one camera, its intrinsics and the times: what whoever films knows
    config.evaluation.trajectories = 40
    return config
