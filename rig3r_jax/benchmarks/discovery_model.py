"""Rigs of held-out procedural drives as a trained Rig3R predicts them, for `rig3r bench discovery --workdir`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rig3r_jax.benchmarks.discovery import Images
from rig3r_jax.benchmarks.fusion import SPLIT
from rig3r_jax.benchmarks.fusion_model import source_of, views_of_frames
from rig3r_jax.inference.models.open import open_model


def predicted_images(workdir: Path, drives: int, steps: int, seed: int) -> Iterator[Images]:
    """Of each drive all images in one pass, shuffled; the network is told nothing.

    ValueError for a run that saw no procedural drives, or a model that says nothing of rigs.
    """
    source, rng = source_of(workdir, drives, steps), np.random.default_rng([seed, 5])
    model = open_model(workdir)
    for _, make in source.scenes(SPLIT):
        scene = make()
        order = rng.permutation(len(scene.frames))
        sizes = [scene.cameras[frame.camera].size for frame in scene.frames]
        views, lenses = views_of_frames(scene, order, model.input_size(sizes), False)
        estimate = model.estimate(views, lenses, [False] * len(lenses))
        if estimate.rig_from_camera is None:
            raise ValueError(f"{model.name} says nothing of cameras in a rig; give a run of Rig3R")
        camera, step = (np.array([getattr(scene.frames[row], name) for row in order]) for name in ("camera", "step"))
        yield Images(np.asarray(estimate.rig_from_camera), np.asarray(estimate.world_from_camera), camera, step)
