"""A network's predictions of a sample, and its truth, as the scenes that files become: they are scored alike."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.evaluation.evaluator import RecoveredCameras
from rig3r_jax.evaluation.rig import discovered_cameras
from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.geometry import camera, rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.geometry.lenses import batch_lens, one_lens
from rig3r_jax.schema import Predictions, Targets

KIND = "predictions of a network"


class TruePoses(NamedTuple):
    """Of a sample's images, as the data set has them."""

    names: tuple[str, ...]
    cameras: tuple[str, ...]
    world_from_camera: Float[np.ndarray, "v 4 4"]  # metres
    rig_from_camera: Float[np.ndarray, "v 4 4"]  # metres


def true_scene(source: str, poses: TruePoses, targets: Targets, image_mask: Bool[np.ndarray, "v h w"]) -> PosedScene:
    """The truth of one sample: its poses in float64; lenses, depths and points of the images as a network sees them."""
    valid = targets.valid & image_mask
    lenses = _lenses(targets)
    depths = [_depth_map(*of_image) for of_image in zip(targets.depth, valid, strict=True)]
    return PosedScene(
        source=source,
        kind="a data set",
        world_from_camera=poses.world_from_camera,
        names=poses.names,
        times=targets.time.astype(np.float64),
        cameras=poses.cameras,
        lenses=lenses,
        sizes=_sizes(image_mask),
        rig_from_camera=poses.rig_from_camera,
        depths=tuple(depths) if valid.any() else None,
        points_world=_points_world(poses, lenses, depths) if valid.any() else None,
    )


def predicted_scene(true: PosedScene, predictions: Predictions, cameras: RecoveredCameras) -> PosedScene:
    """What a network says of the images of a `true_scene`.

    Which camera took an image is found out from where images seem to sit in the rig (`rig.discovered_cameras`), which
    is told of the truth whether any camera took two. Depths and points are of the pixels whose true depth is known, as
    trainings are evaluated.

    Args:
        true: the same images.
        predictions: of one sample, without the batch axis.
        cameras: of its ray maps, likewise.
    """
    labels = discovered_cameras(cameras.rig_from_camera, repeated=len(set(true.cameras)) < len(true))
    focals = np.where(cameras.scored[:, None], cameras.focals, np.nan)
    scene = PosedScene(
        source=KIND,
        kind=KIND,
        world_from_camera=cameras.reference_from_camera,
        names=true.names,
        cameras=tuple(f"camera {label}" for label in labels.tolist()),
        lenses=tuple(Pinhole(np.diag([*pair, 1.0])) for pair in focals),  # of which focal lengths alone are scored
        sizes=true.sizes,
        rig_from_camera=cameras.rig_from_camera,
        is_metric=False,
    )
    posed = np.flatnonzero(np.isfinite(cameras.reference_from_camera).all(axis=(1, 2)))  # others have no pose
    if true.depths is None:
        return scene.take(posed)
    points = predictions.points.astype(np.float64)
    depths = _predicted_depths(true, points, predictions.pose_center.astype(np.float64))
    valid = np.stack([depth.valid for depth in depths])
    return dataclasses.replace(scene, depths=depths, points_world=points[valid]).take(posed)


def _predicted_depths(
    true: PosedScene, points: Float[np.ndarray, "v r c 3"], centers: Float[np.ndarray, "v 3"]
) -> tuple[DepthMap, ...]:
    """Distances of predicted points from their cameras on the predicted grid, where the true depth is known."""
    depths = []
    for size, of_image, center, of_truth in zip(true.sizes, points, centers, true.depths, strict=True):
        columns, rows = (
            camera.stride_pixels(int(side), count) for side, count in zip(size, of_image.shape[1::-1], strict=True)
        )
        uv = np.stack(np.meshgrid((columns + 0.5) / size[0], (rows + 0.5) / size[1]), axis=-1)
        depth = np.linalg.norm(of_image - center, axis=-1)
        valid = of_truth.valid[rows[:, None], columns] & np.isfinite(depth) & (depth > 0)
        depths.append(DepthMap(uv, depth, valid, along_ray=True))
    return tuple(depths)


def _depth_map(depth: Float[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]) -> DepthMap:
    return dataclasses.replace(DepthMap.of_image(depth, valid), along_ray=True)


def _points_world(poses: TruePoses, lenses: Sequence[Lens], depths: Sequence[DepthMap]) -> Float[np.ndarray, "n 3"]:
    points = []
    for world_from_camera, lens, depth in zip(poses.world_from_camera, lenses, depths, strict=True):
        height, width = depth.depth.shape
        rays = lens.rays(depth.uv[depth.valid] * [width, height])
        points.append(rigid.apply(world_from_camera, rays * depth.depth[depth.valid][:, None]))
    return np.concatenate(points)


def _lenses(targets: Targets) -> tuple[Lens, ...]:
    intrinsics = targets.intrinsics.astype(np.float64)
    if targets.distortion is None:
        return tuple(map(Pinhole, intrinsics))
    lenses = batch_lens(intrinsics, targets.distortion)
    return tuple(one_lens(lenses, row) for row in range(len(intrinsics)))


def _sizes(image_mask: Bool[np.ndarray, "v h w"]) -> np.ndarray:
    views, height, width = image_mask.shape
    return np.tile([width, height], (views, 1))
