"""A trained Rig3R goes on with few frames of other cameras: your own folder, of whose frames a part is held out.

Command:   rig3r train --config=finetune --config.data.root=FOLDER --config.model.init_from=runs/demo
           FOLDER is what `rig3r build-data folder --root FOLDER` takes; for recordings of another kind
           '--config.data.mixture[0].name=tum' and the like (docs/studies.md). init_from is the workdir of a run, or
           a file of `rig3r export` or `rig3r convert dust3r`; the keys of `model` below are those of configs/demo.py,
           and where they are not those of init_from the message says which flags are
Hardware:  2 CPU cores
Time:      about 2 minutes
Expected:  on the frames of `validation` and `test`, which are later than those trained on, better than init_from
           itself (rig3r evaluate runs/demo --on RECORDS), and than the same steps from nothing (init_from="")
"""

from ml_collections import ConfigDict

from rig3r_jax.configs import base, demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "finetune"
    config.title = "A small Rig3R, fine-tuned"
    config.data.root = ""  # the folder of recordings
    config.data.mixture = [
        base.dataset("folder", root=config.data.get_ref("root"), fractions=(0.6, 0.2, 0.2), min_frames=4, window=32)
    ]
    config.data.records = ""
    config.sampling.grids = ()

    config.model.init_from = "runs/demo"

    # Few frames are soon known by heart: early layers, which hold what all images share, move least.
    config.optimizer.layer_decay = 0.75
    config.optimizer.learning_rate = 1e-3
    config.optimizer.end_learning_rate = 1e-5
    config.optimizer.warmup_steps = 50
    config.optimizer.frozen = ("encoder/patch_embed/*",)

    config.train.steps = 500
    config.train.log_every = 20
    config.train.checkpoint_every = 250

    config.evaluation.sets = ("validation", "test")
    config.evaluation.samples = 32
    config.evaluation.batch_size = 16
    return config
