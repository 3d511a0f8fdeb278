"""Samples answered by COLMAP: features, exhaustive matches, incremental mapping; through pycolmap."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from rig3r_jax.evaluation.sample_data import SampleData
from rig3r_jax.formats.colmap import read_model
from rig3r_jax.inference.baselines.answer import Task
from rig3r_jax.inference.baselines.motion import identity
from rig3r_jax.schema import Reconstruction


def colmap(task: Task) -> Reconstruction:
    """The largest model of the images, in COLMAP's unit; images that it does not register are not in the answer.

    It is told which images are of one camera, as their folders say. Mapping stops at the limit with what it has. A
    sample of which nothing registers is answered with its first image alone, as a file of cameras holds one at least:
    every pair is missing then.
    """
    import pycolmap  # of the extra `data`

    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    pycolmap.set_random_seed(task.options.seed)
    sample = task.sample
    with tempfile.TemporaryDirectory() as scratch:
        database, models = Path(scratch, "database.db"), Path(scratch, "models")
        models.mkdir()
        pycolmap.extract_features(
            database,
            sample.folder,
            image_names=[image.name for image in sample.truth.images],
            camera_mode=pycolmap.CameraMode.PER_FOLDER,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
        mapping = pycolmap.IncrementalPipelineOptions()
        mapping.max_runtime_seconds = int(np.ceil(task.options.limit_seconds))
        mapping.random_seed = task.options.seed
        mapped = pycolmap.incremental_mapping(database, sample.folder, models, mapping)
        if not mapped:
            return _first_alone(task)
        largest = max(mapped.values(), key=lambda model: model.num_reg_images())
        place = models / "largest"
        place.mkdir()
        largest.write(place)
        return _of_sample(read_model(place).reconstruction, sample)


def _of_sample(model: Reconstruction, sample: SampleData) -> Reconstruction:
    """With the images in the sample's order, their times and the names of the cameras."""
    truth = {image.name: (image, camera) for image, camera in zip(sample.truth.images, sample.cameras, strict=True)}
    names = {image.camera: truth[image.name][1].name for image in model.images}
    cameras = [
        dataclasses.replace(camera, name=names[camera.id], source="fitted")
        for camera in model.cameras
        if camera.id in names
    ]
    posed = {image.name: dataclasses.replace(image, time=truth[image.name][0].time) for image in model.images}
    images = tuple(posed[name] for name in truth if name in posed)
    return dataclasses.replace(model, images=images, cameras=tuple(cameras))


def _first_alone(task: Task) -> Reconstruction:
    answer = identity(task)
    return dataclasses.replace(answer, images=answer.images[:1])
