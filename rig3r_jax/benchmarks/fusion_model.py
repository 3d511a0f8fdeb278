"""Windows of held-out procedural drives as a trained Rig3R predicts them, for `rig3r bench fusion --workdir`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from rig3r_jax.benchmarks.fusion import SPLIT, Case
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import Scene
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.fusion.problem import WindowPoses
from rig3r_jax.geometry.lenses import stacked
from rig3r_jax.geometry.reconstruct import seen_lens
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.scale_links import depth_links, rig_links
from rig3r_jax.inference.seen import fitted_crop, seen_image
from rig3r_jax.schema import RigMetadata, Views
from rig3r_jax.training.config import workdir_config


def predicted_cases(
    workdir: Path, drives: int, steps: int, places: list[list[int]]
) -> Iterator[tuple[str, list[Case]]]:
    """What the network has of the rig, in words, and its cases. ValueError for a run that saw no procedural drives."""
    source = source_of(workdir, drives, steps)
    model = open_model(workdir)
    scenes = [make() for _, make in source.scenes(SPLIT)]
    for metadata, has_rig in {"told nothing": False, "told the rig": True}.items():
        yield metadata, [_case(model, scene, places, has_rig) for scene in scenes]


def source_of(workdir: Path, drives: int, steps: int) -> Procedural:
    """The procedural source that a run was trained on, of so many held-out drives. ValueError where it was not."""
    mixture = workdir_config(Path(workdir)).data.mixture
    entry = next((entry for entry in mixture if entry.name == "procedural"), None)
    if entry is None:
        names = ", ".join(entry.name for entry in mixture)
        raise ValueError(f"{workdir}: was trained on {names}; give a run on procedural, such as --config=demo's")
    source = make_source("procedural", options=entry.options.to_dict())
    return dataclasses.replace(source, test_worlds=drives, steps=steps)


def _case(model: Model, scene: Scene, places: list[list[int]], has_rig: bool) -> Case:
    step, camera = (np.array([getattr(frame, name) for frame in scene.frames]) for name in ("step", "camera"))
    passes = []
    for steps in places:
        images = np.flatnonzero(np.isin(step, steps))
        sizes = [scene.cameras[number].size for number in camera[images]]
        views, lenses = views_of_frames(scene, images, model.input_size(sizes), has_rig)
        estimate = model.estimate(views, lenses, [False] * len(lenses))
        passes.append(Pass.of(images, estimate))
    rig_from_camera = np.stack([scene.cameras[number].rig_from_camera for number in camera])
    return Case(
        np.stack([frame.world_from_camera for frame in scene.frames]),
        step,
        rig_from_camera,
        [WindowPoses(of_pass.rows, np.asarray(of_pass.world_from_camera, np.float64)) for of_pass in passes],
        depth_links(passes),
        list(rig_links(passes, rig_from_camera, step)),
    )


def views_of_frames(
    scene: Scene, images: Int[np.ndarray, " n"], size: tuple[int, int], has_rig: bool
) -> tuple[Views, list[Lens]]:
    """What the model sees of some frames, and their lenses as it sees them; cameras, times and rig where `has_rig`."""
    frames = [scene.frames[image] for image in images]
    cameras = [scene.cameras[frame.camera] for frame in frames]
    seen, masks = zip(*(seen_image(decode_image(frame.image), size) for frame in frames), strict=True)
    lenses = [seen_lens(camera.lens, fitted_crop(*camera.size, size)) for camera in cameras]
    count = len(frames)
    views = Views.of_images(np.stack(seen)[None])
    metadata = RigMetadata(
        frame_index=np.arange(count, dtype=np.int32),
        camera_id=np.array([frame.camera for frame in frames], np.int32),
        time=np.array([frame.time - frames[0].time for frame in frames], np.float32),
        rig_from_camera=np.stack([camera.rig_from_camera for camera in cameras]).astype(np.float32),
        intrinsics=stacked(lenses).intrinsics.astype(np.float32),
        has_camera_id=np.full(count, has_rig),
        has_time=np.full(count, has_rig),
        has_rig=np.full(count, has_rig),
    )
    return Views(views.images[0], np.stack(masks), metadata), lenses
