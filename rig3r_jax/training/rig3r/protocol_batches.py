"""The samples of a protocol as batches, with their truth: the frames of the file, whatever a run is trained on."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rig3r_jax.data.options import LENS_KINDS, PipelineOptions
from rig3r_jax.data.pipeline import make_sample, stack_samples
from rig3r_jax.data.scene import Scene
from rig3r_jax.data.source import Source
from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.evaluation.protocol import PARTLY_KNOWN, Protocol, ProtocolSample
from rig3r_jax.evaluation.protocol_data import ProtocolScenes, rows_of
from rig3r_jax.evaluation.samples import TruePoses
from rig3r_jax.schema import Batch, Views


class ProtocolBatch(NamedTuple):
    """Samples of a protocol; `batch` has all metadata, which settings hide."""

    batch: Batch
    samples: tuple[ProtocolSample, ...]
    poses: tuple[TruePoses, ...]


def protocol_batches(
    config: ConfigDict, protocol: Protocol, source: Source, share: tuple[int, int] = (0, 1)
) -> Iterator[ProtocolBatch]:
    """The rows of this process of every batch of `config.evaluation.batch_size` samples, in the protocol's order.

    Images are prepared as those of an evaluation. They are numbered, and their cameras, in the order of the protocol,
    as in a reconstruction; in the targets cameras are numbered by name. ValueError where the data is another version.
    """
    options = PipelineOptions(**config.sampling.to_dict()).for_evaluation()
    options = dataclasses.replace(options, num_views=protocol.rules.views, grids=(), lenses=",".join(LENS_KINDS))
    size = config.evaluation.batch_size
    rows = size // share[1]
    scenes = ProtocolScenes(protocol, source)
    for first in range(share[0] * rows, len(protocol.samples), size):
        samples = protocol.samples[first : first + rows]
        prepared = [_prepared(scenes[sample.scene], sample, protocol, options) for sample in samples]
        batches, poses = zip(*prepared, strict=True)
        yield ProtocolBatch(stack_samples(batches), samples, poses)


def views_in_setting(batch: Batch, setting: str) -> Views:
    """The images, with the metadata that a system gets in a setting of `protocol.PROTOCOL_SETTINGS`."""
    if setting != PARTLY_KNOWN:
        return apply_setting(batch.views, setting)
    every_second = np.asarray(batch.targets.camera_index) % 2 == 0
    metadata = batch.views.metadata
    has_rig = np.asarray(metadata.has_rig) & every_second
    return apply_setting(batch.views.replace(metadata=metadata.replace(has_rig=has_rig)), "rig")


def _prepared(
    scene: Scene, sample: ProtocolSample, protocol: Protocol, options: PipelineOptions
) -> tuple[Batch, TruePoses]:
    """A sample without the batch axis, and its truth."""
    rows = rows_of(scene, sample, protocol.name)
    made = make_sample(scene, rows, options, np.random.default_rng(0))  # what it draws is replaced here
    frames = [scene.frames[row] for row in rows]
    cameras = [scene.cameras[frame.camera] for frame in frames]
    names = [camera.name for camera in cameras]
    metadata = made.views.metadata.replace(
        frame_index=np.arange(len(rows), dtype=np.int32),
        camera_id=np.array([list(dict.fromkeys(names)).index(name) for name in names], np.int32),
    )
    by_name = np.unique(names, return_inverse=True)[1].astype(np.int32)
    poses = TruePoses(
        names=sample.images,
        cameras=tuple(names),
        world_from_camera=np.stack([frame.world_from_camera for frame in frames]).astype(np.float64),
        rig_from_camera=np.stack([camera.rig_from_camera for camera in cameras]).astype(np.float64),
    )
    views, targets = made.views.replace(metadata=metadata), made.targets.replace(camera_index=by_name)
    return jax.tree.map(np.asarray, made.replace(views=views, targets=targets)), poses
