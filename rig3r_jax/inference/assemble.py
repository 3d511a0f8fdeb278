"""A reconstruction of what passes say of images, once it is known where these were taken from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.geometry.reconstruct import original_lens, point_maps
from rig3r_jax.inference.on_rays import on_rays
from rig3r_jax.inference.options import DEPTH
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.placement import Placement, camera_numbers
from rig3r_jax.inference.shots import Shot, views_of
from rig3r_jax.schema import PhysicalCamera, PointMaps, PosedImage, Reconstruction


def assembled(
    folder: Path | None,
    shots: Sequence[Shot],
    passes: Sequence[Pass],
    placement: Placement,
    points_from: str = DEPTH,
) -> Reconstruction:
    """Images, cameras and points. An image of several passes has the points of that which is surest of it.

    `points_from`: see `options.ReconstructOptions`.
    """
    chosen = _surest(passes, len(shots))
    lenses, lens_sources = _lenses(shots, passes, chosen)
    images = tuple(
        PosedImage(
            name=shot.photograph.name,
            width=shot.width,
            height=shot.height,
            lens=lenses[number],
            world_from_camera=placement.world_from_camera[number],
            camera=camera,
            time=shot.time,
            covariance=None if placement.covariance is None else placement.covariance[number],
            crop=shot.crop,
            lens_source=lens_sources[number],
            pose_source=placement.pose_sources[number],
        )
        for number, (shot, camera) in enumerate(zip(shots, camera_numbers(shots), strict=True))
    )
    metric = placement.scale.source != "none"
    points = _points(shots, passes, chosen, placement)
    if points_from == DEPTH:
        points = on_rays(points, lenses, placement.world_from_camera)
    return Reconstruction(
        images=images,
        cameras=physical_cameras(shots, lenses, metric),
        length_unit="metre" if metric else "scene",
        scale=placement.scale,
        points=points,
        frame=placement.frame,
        image_folder=None if folder is None else str(folder.absolute()),
    )


def physical_cameras(shots: Sequence[Shot], lenses: Sequence[Lens], metric: bool) -> tuple[PhysicalCamera, ...]:
    """The cameras of the folders that the images lie in. A camera's lens is that of its first image; its place in the
    rig, which is in metres, is not told where the reconstruction's lengths are not."""
    cameras = {}
    for shot, lens, number in zip(shots, lenses, camera_numbers(shots), strict=True):
        if number is not None and number not in cameras:
            place = shot.rig_from_camera if metric else None
            source = "given" if shot.lens or place is not None else "fitted"
            cameras[number] = PhysicalCamera(number, shot.photograph.camera, lens, place, source)
    return tuple(cameras.values())


def _surest(passes: Sequence[Pass], count: int) -> list[tuple[int, int]]:
    """For each image the pass whose mean confidence in it is highest, and its place there."""
    best: list[tuple[float, int, int]] = [(-1.0, 0, 0)] * count
    for number, one_pass in enumerate(passes):
        for place, row in enumerate(one_pass.rows.tolist()):
            best[row] = max(best[row], (float(one_pass.confidence[place]), number, place))
    return [(number, place) for _, number, place in best]


def _lenses(
    shots: Sequence[Shot], passes: Sequence[Pass], chosen: Sequence[tuple[int, int]]
) -> tuple[list[Lens], list[str]]:
    """Lenses of the originals. Unknown ones of one camera with images of one size are one: what most images say."""
    lenses = [
        shot.lens or original_lens(passes[number].lenses[place], shot.crop)
        for shot, (number, place) in zip(shots, chosen, strict=True)
    ]
    sources = ["given" if shot.lens else "predicted" for shot in shots]
    groups: dict[tuple, list[int]] = {}
    for row, shot in enumerate(shots):
        if shot.lens is None and shot.photograph.camera is not None:
            groups.setdefault((shot.photograph.camera, shot.height, shot.width), []).append(row)
    for rows in groups.values():
        if len(rows) > 1:
            shared = _middle([lenses[row] for row in rows], shots[rows[0]])
            for row in rows:
                lenses[row], sources[row] = shared, "fitted"
    return lenses, sources


def _middle(lenses: Sequence[Lens], shot: Shot) -> Lens:
    """Of pinholes that of the medians; of others the one whose rays are nearest to all others' on a grid."""
    if all(isinstance(lens, Pinhole) for lens in lenses):
        return Pinhole(np.median([lens.intrinsics for lens in lenses], axis=0))
    u, v = np.meshgrid(*((np.arange(8) + 0.5) / 8 * side for side in (shot.width, shot.height)))
    rays = np.stack([lens.rays(np.stack([u, v], axis=-1)) for lens in lenses])
    apart = np.linalg.norm(rays[:, None] - rays[None], axis=-1).mean(axis=(1, 2, 3))
    return lenses[int(np.argmin(apart))]


def _points(
    shots: Sequence[Shot], passes: Sequence[Pass], chosen: Sequence[tuple[int, int]], placement: Placement
) -> PointMaps:
    """Of every image, in the order of the images."""
    maps: list[PointMaps | None] = [None] * len(shots)
    for number, one_pass in enumerate(passes):
        places = [place for place, row in enumerate(one_pass.rows.tolist()) if chosen[row] == (number, place)]
        if not places:
            continue
        rows = one_pass.rows[places]
        group = [shots[row] for row in rows]
        views = views_of(group).replace(image_mask=np.stack([shot.counts for shot in group]))
        estimate = one_pass.estimate.of(places)
        factors = np.full(len(rows), placement.factors[number])
        of_pass = point_maps(estimate, views, [shot.crop for shot in group], placement.world_from_camera[rows], factors)
        for place, row in enumerate(rows.tolist()):
            maps[row] = _one(of_pass, place)
    return _joined(maps)


def _fields(points: PointMaps) -> dict[str, np.ndarray]:
    values = {field.name: getattr(points, field.name) for field in dataclasses.fields(points)}
    return {name: value for name, value in values.items() if value is not None}


def _one(points: PointMaps, place: int) -> PointMaps:
    return PointMaps(**{name: value[place : place + 1] for name, value in _fields(points).items()})


def _joined(maps: Sequence[PointMaps]) -> PointMaps:
    names = _fields(maps[0])
    return PointMaps(**{name: np.concatenate([getattr(one, name) for one in maps]) for name in names})
