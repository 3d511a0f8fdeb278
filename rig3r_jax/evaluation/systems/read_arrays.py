"""Arrays of demo scripts, .npz: those of Depth Anything 3, VGGT and MapAnything, which their keys tell apart.

    Depth Anything 3   extrinsics (v, 3 or 4, 4) camera_from_world, intrinsics (v, 3, 3), depth (v, h, w), conf
                       exports/npz/results.npz and exports/mini_npz/results.npz of its command and its API
    VGGT               extrinsic (v, 3, 4) camera_from_world, intrinsic, depth (v, h, w, 1), world_points, depth_conf
                       predictions.npz of demo_gradio.py
    MapAnything        extrinsic (v, 4, 4) WORLD_FROM_CAMERA, intrinsic, depth (v, h, w, 1), world_points, conf,
                       final_mask; predictions.npz of its gradio_app.py. The key final_mask tells it from VGGT's
    any                world_from_camera (v, 4, 4), and of these what there is: names, times, intrinsics, sizes, depth

Depths are along the camera's axis, on maps that cover the image. Names and times are read where such a file has them
(`names` or `image_names`, `times`); those scripts write none, so that their images are matched by their order.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.formats.npz import Npz
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Pinhole

_TOLERANCE = 1e-2  # of rotations that left a network in half precision; the nearest one is taken
_KEYS = (
    "extrinsics", "intrinsics", "extrinsic", "intrinsic", "world_from_camera", "depth", "world_points", "final_mask",
    "names", "image_names", "times", "sizes",
)  # fmt: skip
PLACES = ("exports/npz/results.npz", "exports/mini_npz/results.npz", "results.npz", "predictions.npz")


def read_arrays(path: Path) -> PosedScene:
    """The scene of a file; ValueError naming file, array, rule and remedy."""
    try:
        with Npz(path) as file:
            arrays = {name: file[name] for name in file if name in _KEYS}
            keys = ", ".join(file)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path}: does not open as arrays without pickles ({error}); write it with numpy.savez"
        ) from error
    key, kind = next(((key, kind) for key, kind in _kinds(arrays) if key in arrays), ("", ""))
    if not kind:
        raise ValueError(f"{path}: has {keys}; must have extrinsics, extrinsic or world_from_camera")
    poses = _poses(path, key, arrays[key], inverted=kind in ("Depth Anything 3", "VGGT"))
    views = len(poses)
    depth = _views(path, "depth", arrays.get("depth"), views)
    depth = depth[..., 0] if depth is not None and depth.ndim == 4 and depth.shape[-1] == 1 else depth
    if depth is not None and depth.ndim != 3:
        raise ValueError(f"{path}: depth has shape {arrays['depth'].shape}, must be (v, h, w) or (v, h, w, 1)")
    mask = _views(path, "final_mask", arrays.get("final_mask"), views)
    intrinsics = _views(path, "intrinsics", arrays.get("intrinsics", arrays.get("intrinsic")), views)
    points = _views(path, "world_points", arrays.get("world_points"), views)
    sizes = _views(path, "sizes", arrays.get("sizes"), views)
    if sizes is None and depth is not None:
        sizes = np.tile([depth.shape[2], depth.shape[1]], (views, 1))
    names = _views(path, "names", arrays.get("names", arrays.get("image_names")), views)
    depths = None if depth is None else tuple(
        DepthMap.of_image(one, None if mask is None else mask[row].astype(bool)) for row, one in enumerate(depth)
    )  # fmt: skip
    return PosedScene(
        source=str(path),
        kind=f"arrays of {kind}",
        world_from_camera=poses,
        names=None if names is None else tuple(map(str, names.tolist())),
        times=_views(path, "times", arrays.get("times"), views),
        lenses=None if intrinsics is None else tuple(map(Pinhole, intrinsics.astype(np.float64))),
        sizes=sizes,
        depths=depths,
        points_world=None if points is None else _cloud(points, mask),
    )


def _kinds(arrays: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """The array of the poses, and whose it is, in the order of trying."""
    own = "MapAnything" if "final_mask" in arrays else "VGGT"
    return [("world_from_camera", "any system"), ("extrinsics", "Depth Anything 3"), ("extrinsic", own)]


def _poses(path: Path, key: str, values: np.ndarray, inverted: bool) -> Float[np.ndarray, "v 4 4"]:
    if values.ndim != 3 or values.shape[1:] not in ((3, 4), (4, 4)) or not len(values):
        raise ValueError(f"{path}: {key} has shape {values.shape}, must be (v, 3, 4) or (v, 4, 4) with v at least 1")
    matrices = np.tile(np.eye(4), (len(values), 1, 1))
    matrices[:, :3] = values[:, :3]
    for row, matrix in enumerate(matrices):
        rigid.check(matrix, f"{path}: {key} of image {row}", tolerance=_TOLERANCE)
    matrices = rigid.nearest_rigid(matrices)
    return rigid.invert(matrices) if inverted else matrices


def _views(path: Path, key: str, values: np.ndarray | None, views: int) -> np.ndarray | None:
    if values is not None and (not values.ndim or len(values) != views):
        raise ValueError(f"{path}: {key} has shape {values.shape} for {views} poses; give one to each")
    return values


def _cloud(points: np.ndarray, mask: np.ndarray | None) -> Float[np.ndarray, "n 3"]:
    keep = np.isfinite(points).all(axis=-1)
    return points[keep if mask is None else keep & mask.astype(bool)].reshape(-1, 3).astype(np.float64)
