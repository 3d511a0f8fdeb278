"""The demo at three widths, on three numbers of worlds, with images of two sizes: how errors fall with compute.

Command:   rig3r scaling-study --config=scaling --out=runs/scaling --predict=full
           `rig3r scaling-study --config=NAME` takes the same grid around any other config of rig3r
Hardware:  2 CPU cores
Time:      18 runs; the wide ones and those of large images take most of it
Expected:  runs/scaling/scaling.md and scaling.png: loss and mAA30 of every run against its operations, a law for each
           number of worlds, and what it says of the configs of --predict
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "scaling"
    config.data.mixture[0].options.image_size = 128  # records of the largest images serve all sizes
    config.data.mixture[0].options.train_worlds = 2048
    config.study = study(config)
    return config


def study(config: ConfigDict) -> ConfigDict:
    """The section `study` for a config of rig3r: the grid, each setting a key of its own."""
    section = ConfigDict()
    section.widths = (32, 64, 128)  # of encoder and decoder; heads keep their width, heads' layers their share
    section.worlds = (128, 512, 2048)  # scenes of the training split (data.max_scenes)
    section.image_sizes = (64, 128)  # pixels (sampling.image_size); patches keep theirs
    # Learning rates are those of the config at its own width, and fall as width^-rate_power. 0.8: about as those that
    # GPT-3 was trained with at eight widths (Brown et al. 2020, table 2.1).
    section.rate_power = 0.8
    return section
