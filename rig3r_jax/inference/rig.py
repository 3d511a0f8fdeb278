"""The rig of photographs, by a model: passes, one place per image, discovery, refinement."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.geometry.fusion.problem import WindowPoses
from rig3r_jax.geometry.fusion.refine_rig import RefinedRig, refine_rig
from rig3r_jax.geometry.rig_discovery import DiscoveredRig, discover_rig
from rig3r_jax.geometry.rig_motion import scale_of
from rig3r_jax.geometry.rig_poses import lie_apart
from rig3r_jax.inference.assemble import assembled
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.pass_store import opened_store
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.placement import Placement, place
from rig3r_jax.inference.plan import Plan
from rig3r_jax.inference.rig_result import RigDiscovery
from rig3r_jax.inference.shots import Shot, read_shots
from rig3r_jax.inference.windowed import WindowOptions, windowed_passes
from rig3r_jax.schema import PhysicalCamera, Reconstruction, Scale


def find_rig(
    model: Model,
    folder: Path | None,
    photographs: Sequence[Photograph],
    knowledge: Known,
    planned: Plan,
    options: ReconstructOptions | None = None,
    camera_count: int | None = None,
    refine: bool = False,
    tell: Callable[[str], None] | None = None,
) -> RigDiscovery:
    """The rig of the photographs, by what the model says of the cameras' places in it.

    Cameras of photographs in folders of their own are known, as are steps where photographs have any; else they are
    found. Places of cameras in `knowledge.rig` are held, and the others come out in its frame; in metres, too, where
    two of these places lie apart. Arguments as of `reconstruct.reconstruct`; camera_count: where it is known; refine:
    places, and the rig's pose at every step, are fitted to the poses of all passes too (`geometry.fusion.refine_rig`).

    ValueError for a model that says nothing of rigs, and as `reconstruct` and `geometry.rig_discovery` say.
    """
    options = options or ReconstructOptions()
    shots = read_shots(photographs, knowledge, planned.size, model.fill)
    windows = WindowOptions(planned.views, ordered=not options.unordered, points=options.points)
    with opened_store(options.cache, model.digest if options.cache else "") as store:
        passes, notes = windowed_passes(model, shots, windows, store, options.wide, tell)
        if any(one.rig_from_camera is None for one in passes):
            raise ValueError(f"{model.name} says nothing of cameras in a rig; give a run of Rig3R")
        placement = place(passes, shots, knowledge, options.refine)
        predicted = _predicted(passes, placement, len(shots))
        metric = placement.scale.source != "none"
        stated, camera = _known_cameras(shots)
        calibrated = _calibrated(knowledge.rig, stated)
        in_metres = metric or lie_apart(calibrated.values())
        rig = discover_rig(
            predicted,
            world_from_camera=placement.world_from_camera,
            step=_steps(shots),
            camera=camera,
            camera_count=camera_count,
            calibrated=calibrated,
            metric=metric,
            unit="m" if in_metres else "units",
        )
        if in_metres and not metric:
            placement = _scaled(placement, scale_of(rig.rig_from_predicted))
        refined = _refined(rig, passes) if refine else None
        if refined is not None:
            rig = dataclasses.replace(rig, rig_from_camera=refined.rig_from_camera, covariance=refined.covariance)
        names = camera_names(rig, stated, camera)
        named = [_named(shot, rig, names, row) for row, shot in enumerate(shots)]
        reconstruction = dataclasses.replace(assembled(folder, named, passes, placement), points=None)
    notes = [*model.notes, *([model.licence] if model.licence else []), *notes, *placement.notes]
    return RigDiscovery(rig, names, predicted, _with_places(reconstruction, rig, names), tuple(notes), refined)


def _predicted(passes: Sequence[Pass], placement: Placement, count: int) -> Float[np.ndarray, "v 4 4"]:
    """Of every image by the pass whose points of it are surest, in the placement's unit."""
    predicted, best = np.full((count, 4, 4), np.nan), np.full(count, -1.0)
    for one_pass, factor in zip(passes, placement.factors, strict=True):
        surer = one_pass.confidence > best[one_pass.rows]
        rows = one_pass.rows[surer]
        best[rows] = one_pass.confidence[surer]
        predicted[rows] = one_pass.rig_from_camera[surer]
        predicted[rows, :3, 3] *= factor
    return predicted


def _scaled(placement: Placement, factor: float) -> Placement:
    """The same in metres; its unit has `factor` of them, by the calibrated places."""
    units = np.repeat([factor, 1.0], 3)
    world_from_camera = placement.world_from_camera.copy()
    world_from_camera[:, :3, 3] *= factor
    return dataclasses.replace(
        placement,
        world_from_camera=world_from_camera,
        covariance=None if placement.covariance is None else placement.covariance * np.outer(units, units),
        factors=factor * placement.factors,
        scale=Scale(factor * placement.scale.factor, "rig baselines"),
    )


def _calibrated(calibration: RigCalibration | None, names: dict[int, str]) -> dict[int, Float[np.ndarray, "4 4"]]:
    """Places that are known, by number of the camera, of those with images."""
    if calibration is None:
        return {}
    places = {camera.name: camera.rig_from_camera for camera in calibration.cameras}
    return {number: places[name] for number, name in names.items() if places.get(name) is not None}


def _refined(rig: DiscoveredRig, passes: Sequence[Pass]) -> RefinedRig:
    """Places and poses that fit the poses of all passes; calibrated places hold, else the first."""
    usable = (rig.camera >= 0) & (rig.step >= 0)
    if len(rig.rig_from_camera) < 2 or not usable.all():
        raise ValueError(
            f"{len(rig.rig_from_camera)} cameras, {int(np.sum(~usable))} images without a camera or step: refining "
            "wants two cameras and all images on the rig; leave --refine out"
        )
    windows = [WindowPoses(one.rows, one.world_from_camera, one.joining_covariance) for one in passes]
    return refine_rig(windows, rig.rig_from_camera, rig.camera, rig.step, rig.calibrated)


def _known_cameras(shots: Sequence[Shot]) -> tuple[dict[int, str], Int[np.ndarray, " v"]]:
    """Names of the cameras that folders tell, by number; the number of every image's, -1 of none."""
    names = dict.fromkeys(shot.photograph.camera for shot in shots if shot.photograph.camera is not None)
    numbers = {name: index for index, name in enumerate(names)}
    return dict(enumerate(names)), np.array([numbers.get(shot.photograph.camera, -1) for shot in shots])


def camera_names(rig: DiscoveredRig, stated: Mapping[int, str], camera: Int[np.ndarray, " v"]) -> tuple[str, ...]:
    """Of the rig's cameras by number: those that are stated, by the numbers in `camera`, come first in their order, but
    for those of which no image has a finite prediction; others are camera0, camera1 .., as far as no name is taken."""
    numbers = np.unique(camera[(rig.camera >= 0) & (camera >= 0)]).tolist()
    names = [stated[number] for number in numbers]
    free = (name for name in map("camera{}".format, itertools.count(len(names))) if name not in stated.values())
    return (*names, *itertools.islice(free, len(rig.rig_from_camera) - len(names)))


def _steps(shots: Sequence[Shot]) -> Int[np.ndarray, " v"] | None:
    """Of the rig, or of equal times; None where neither is known of any image."""
    times = sorted({shot.time for shot in shots if shot.time is not None})
    numbers = {time: step for step, time in enumerate(times)}
    steps = [shot.photograph.step if shot.photograph.step is not None else numbers.get(shot.time) for shot in shots]
    return None if all(step is None for step in steps) else np.array([-1 if step is None else step for step in steps])


def _named(shot: Shot, rig: DiscoveredRig, names: Sequence[str], row: int) -> Shot:
    camera = None if rig.camera[row] < 0 else names[rig.camera[row]]
    return dataclasses.replace(shot, photograph=dataclasses.replace(shot.photograph, camera=camera))


def _with_places(reconstruction: Reconstruction, rig: DiscoveredRig, names: Sequence[str]) -> Reconstruction:
    """Cameras by number of the rig, in the frame of calibrated ones, or the first one's."""
    first = None if rig.calibrated.any() else 0  # whose place is an identity without rounding
    lenses = {camera.name: camera.lens for camera in reconstruction.cameras}
    ids = {camera.id: names.index(camera.name) for camera in reconstruction.cameras}
    cameras = tuple(
        PhysicalCamera(
            index,
            name,
            lenses.get(name),
            np.eye(4) if index == first else rig.frame_from_rig @ rig.rig_from_camera[index],
            "given" if rig.calibrated[index] else "discovered",
            float(rig.camera_certainty[index]),
        )
        for index, name in enumerate(names)
    )
    images = tuple(
        dataclasses.replace(image, camera=None if image.camera is None else ids[image.camera])
        for image in reconstruction.images
    )
    return dataclasses.replace(reconstruction, images=images, cameras=cameras)
