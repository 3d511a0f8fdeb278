"""Rigs of held-out procedural drives as a trained Rig3R predicts them, for `rig3r bench discovery --workdir`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rig3r_jax.benchmarks.discovery import Images
from rig3r_jax.benchmarks.fusion import SPLIT
from rig3r_jax.benchmarks.fusion_model import source_of, views_of_frames
from rig3r_jax.inference.models.open import open_model


def predicted_images(workdir: Path, drives: int, images: int, seed: int) -> Iterator[Images]:
    """Of each drive the first `images` in one pass, shuffled; the network has no metadata.

    Whole time steps but for the last one, and of each drive as many: one program is compiled.

    ValueError for a run that saw no procedural drives, or a model that says nothing of rigs.
    """
    source, rng = source_of(workdir, drives, images), np.random.default_rng([seed, 5])
    model = open_model(workdir)
    for _, make in source.scenes(SPLIT):
        scene = make()
        by_step = np.argsort([frame.step for frame in scene.frames], kind="stable")
        order = rng.permutation(by_step[:images])
        sizes = [scene.cameras[scene.frames[row].camera].size for row in order]
        views, lenses = views_of_frames(scene, order, model.input_size(sizes), False)
        estimate = model.estimate(views, lenses, [False] * len(lenses))
        if estimate.rig_from_camera is None:
            raise ValueError(f"{model.name} says nothing of cameras in a rig; give a run of Rig3R")
        camera, step = (np.array([getattr(scene.frames[row], name) for row in order]) for name in ("camera", "step"))
        yield Images(np.asarray(estimate.rig_from_camera), np.asarray(estimate.world_from_camera), camera, step)
