"""The demo without one of its parts at a time, and the weights that the paper leaves open, swept.

Command:   rig3r ablate --config=ablations --out=runs/ablations
           `rig3r ablate --config=NAME` takes the same variants of any other config of rig3r
Hardware:  2 CPU cores
Time:      that of the demo for each of the 19 runs; --config.train.steps=2000 takes a fifth of it
Expected:  runs/ablations/ablations.md: every run beside the base, with the difference and its interval over worlds
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import demo

SEEDS = 2  # runs that differ from the base by chance alone: what a difference is to be read against
SWEEPS = {  # around the defaults of configs/base.py, about threefold
    "lambda_pose": (0.3, 3.0),
    "lambda_rig": (0.3, 3.0),
    "alpha": (0.05, 0.8),
    "beta": (0.3, 3.0),
}


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "ablations"
    config.study = study(config)
    return config


def study(config: ConfigDict) -> ConfigDict:
    """The section `study` for a config of rig3r: variants of it, each by the keys that it changes."""
    section = ConfigDict()
    section.variants = [
        *(variant(f"seed={seed}", f"seed={seed}") for seed in range(config.seed + 1, config.seed + 1 + SEEDS)),
        variant("no-rig-embedding", "model.rig_embedding=False"),
        variant("no-rig-head", "loss.lambda_rig=0.0"),  # it then learns nothing, and nothing is learnt for it
        variant("no-metadata-dropout", "sampling.metadata_dropout=0.0"),
        variant("no-confidence", "loss.alpha=0.0"),  # without a reward for more, the least confidence, 1, is best
        _other_head(config),
        # Crops of each image of its own are crops too: what sharing is worth is their difference.
        variant("crops", "sampling.crop_scale_range=(0.7,1.0)"),
        variant("crops-not-shared", "sampling.crop_scale_range=(0.7,1.0)", "sampling.shared_crops=False"),
        variant("fixed-reference", "sampling.shuffled=False"),
        *(variant(f"{key}={value}", f"loss.{key}={value}") for key, values in SWEEPS.items() for value in values),
    ]
    return section


def variant(name: str, *overrides: str) -> ConfigDict:
    """An entry of `study.variants`: a name, and words such as loss.alpha=0.0."""
    return ConfigDict({"name": name, "overrides": overrides})


def _other_head(config: ConfigDict) -> ConfigDict:
    """With DPT where the config has a linear head, else without it."""
    if config.model.point_head == "dpt":
        return variant("no-dpt", "model.point_head=linear", "model.points_per_patch=4")
    return variant("dpt", "model.point_head=dpt", "model.dpt_features=32", "model.dpt_last=16")
