"""Samples answered by a model, with its images or its metadata taken away or made wrong.

Poses are as the network says them in one pass: unlike in `reconstruct`, no known rig or pose is held afterwards, so
that what is measured is the network. Images and metadata are shown as in the evaluation of a run
(`evaluator.apply_setting`).
"""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.evaluation.sample_data import SampleData
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.inference.assemble import assembled
from rig3r_jax.inference.baselines.answer import Task
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.placement import Placement
from rig3r_jax.inference.plan import plan
from rig3r_jax.inference.shots import Shot, read_shots, views_of
from rig3r_jax.schema import PhysicalCamera, Reconstruction, Scale


def model_itself(task: Task) -> Reconstruction:
    """Images and metadata as they are."""
    return _answered(task, _calibration(task.sample.truth.cameras), np.arange(len(task.sample.truth.images)))


def blank_images(task: Task) -> Reconstruction:
    """Grey images, true metadata."""
    rows = np.arange(len(task.sample.truth.images))
    return _answered(task, _calibration(task.sample.truth.cameras), rows, blank=True)


def shuffled_metadata(task: Task) -> Reconstruction:
    """True images, each with the camera, time, lens and place in the rig of another one of the sample."""
    rows = other_rows(len(task.sample.truth.images), task.sample.name, task.options.seed)
    return _answered(task, _calibration(task.sample.truth.cameras), rows)


def wrong_rig(task: Task) -> Reconstruction:
    """True images, cameras and times; lenses and places are those of another sample's rig, in the order of its cameras.

    Of a rig with fewer cameras the places are taken again. ValueError where the setting tells no rig, or all samples
    have one and the same.
    """
    if "rig" not in SETTINGS[task.options.setting]:
        raise ValueError(f"setting {task.options.setting!r} tells no rig that could be wrong; take one that does: all")
    others = _another_rig(task)
    swapped = [_in_place_of(own, others[row % len(others)]) for row, own in enumerate(_used(task.sample))]
    return _answered(task, _calibration(swapped), np.arange(len(task.sample.truth.images)))


def other_rows(count: int, name: str, seed: int) -> Int[np.ndarray, " v"]:
    """For each of the images another one, each taken once: one cycle through all of them, drawn at random."""
    order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(count)
    rows = np.empty(count, np.int64)
    rows[order] = np.roll(order, 1)
    return rows


def _answered(task: Task, rig: RigCalibration, rows: Int[np.ndarray, " v"], blank: bool = False) -> Reconstruction:
    """`rows`: whose metadata each image is told."""
    sample, setting = task.sample, task.options.setting
    cameras, images = sample.cameras, sample.truth.images
    if tells_rig := "rig" in SETTINGS[setting]:
        sample.places(cameras)  # ValueError where one has none
    photographs = [
        Photograph(sample.folder / image.name, image.name, cameras[row].name)
        for image, row in zip(images, rows, strict=True)
    ]
    metadata = Known(rig=rig, times={image.name: images[row].time for image, row in zip(images, rows, strict=True)})
    planned = plan(
        task.model, [(image.height, image.width) for image in images], ReconstructOptions(max_views=len(images))
    )
    if planned.views < len(images):
        raise ValueError(
            f"{sample.name}: {len(images)} images do not fit one pass ({planned.summary}); it takes more memory"
        )
    shots = read_shots(photographs, metadata, planned.size, task.model.fill)
    views = views_of(shots)
    assert views.metadata.has_rig.all() or not tells_rig
    shots = [_told(shot, setting) for shot in shots]
    wide = [shot.lens is None and image.lens.wide for shot, image in zip(shots, images, strict=True)]
    estimate = task.model.estimate(apply_setting(views, setting, blank), [shot.seen_lens for shot in shots], wide)
    placement = Placement(
        world_from_camera=estimate.world_from_camera,
        pose_sources=("predicted",) * len(shots),
        covariance=estimate.covariance,
        factors=np.ones(1),
        scale=Scale(1.0, "none"),
        frame="OpenCV axes, a world of the model's choice",
        notes=(),
    )
    return assembled(None, shots, [Pass.of(np.arange(len(shots)), estimate)], placement)


def _told(shot: Shot, setting: str) -> Shot:
    """Without what the setting hides: it must not be in the answer either."""
    groups = SETTINGS[setting]
    if "camera_id" not in groups:
        shot = dataclasses.replace(shot, photograph=dataclasses.replace(shot.photograph, camera=None))
    if "rig" not in groups:
        shot = dataclasses.replace(shot, lens=None, front_from_camera=None, rig_from_camera=None)
    return shot


def _calibration(cameras: Sequence[PhysicalCamera]) -> RigCalibration:
    calibrated = [CalibratedCamera(camera.name, camera.lens, None, camera.rig_from_camera) for camera in cameras]
    return RigCalibration(tuple(calibrated), "the rig of the sample")


@dataclasses.dataclass(frozen=True)
class _Used:
    """A camera that took images of a sample, and their size."""

    camera: PhysicalCamera
    width: int
    height: int


def _used(sample: SampleData) -> list[_Used]:
    """In the order of the truth's cameras."""
    images = {image.camera: image for image in sample.truth.images}
    cameras = [camera for camera in sample.truth.cameras if camera.id in images]
    return [_Used(camera, images[camera.id].width, images[camera.id].height) for camera in cameras]


def _another_rig(task: Task) -> list[_Used]:
    """Of the next sample, in the order of their names and round, whose cameras sit elsewhere."""
    number, places = task.samples.index(task.sample), _places(task.sample)
    for sample in (*task.samples[number + 1 :], *task.samples[:number]):
        others = _places(sample)
        if len(others) != len(places) or not np.allclose(others, places, atol=1e-6):
            return _used(sample)
    raise ValueError(f"all {len(task.samples)} samples have the rig of {task.sample.name}; none is wrong")


def _places(sample: SampleData) -> Float[np.ndarray, "k 4 4"]:
    return sample.places([used.camera for used in _used(sample)])


def _in_place_of(own: _Used, other: _Used) -> PhysicalCamera:
    """The other's lens and place under the own name, the lens for images of the own size."""
    lens = other.camera.lens.resize(own.width / other.width, own.height / other.height)
    return PhysicalCamera(own.camera.id, own.camera.name, lens, other.camera.rig_from_camera)
