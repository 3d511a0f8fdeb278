"""A folder of an export back to the reconstruction that it holds."""

import dataclasses
from pathlib import Path

import numpy as np

from rig3r_jax.exports.npz import ARRAYS, POINTS
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.npz import Npz
from rig3r_jax.schema import PointMaps, Reconstruction

CAMERAS, ARRAYS_FILE, CLOUD = "cameras.json", "reconstruction.npz", "points.ply"


def read_reconstruction(folder: str | Path) -> Reconstruction:
    """The cameras of cameras.json with the points of reconstruction.npz, where that is there and has any.

    Raises ValueError, naming file and remedy: no folder, no cameras.json, a file that is none of its kind, arrays that
    do not belong to the cameras.
    """
    folder = Path(folder)
    if not (folder / CAMERAS).is_file():
        what = f"has no {CAMERAS}" if folder.is_dir() else "is no folder"
        raise ValueError(
            f"{folder}: {what}; give a folder that `rig3r reconstruct` or an export has made (kinds npz, cameras)"
        )
    reconstruction = read_cameras(folder / CAMERAS)
    if not (folder / ARRAYS_FILE).exists():
        return reconstruction
    return _with_points(reconstruction, folder / ARRAYS_FILE)


def _with_points(cameras: Reconstruction, path: Path) -> Reconstruction:
    arrays = _arrays(path)
    names = [image.name for image in cameras.images]
    if arrays["names"].tolist() != names:
        raise ValueError(f"{path}: its images are not those of {CAMERAS} beside it; export both again")
    if "pixels" not in arrays:
        return cameras
    shape = arrays["depth"].shape
    names_of_points = [name for name in arrays if name != "names"]
    for name in names_of_points:
        tail = {"pixels": (2,), "points_world": (3,), "colors": (3,)}.get(name, ())
        if len(shape) != 3 or shape[0] != len(names) or arrays[name].shape != (*shape, *tail):
            expected = f"{ARRAYS[name]} with v = {len(names)}"
            raise ValueError(f"{path}: {name} has shape {arrays[name].shape}, must be {expected}; export it again")
        kind = {"colors": np.uint8, "on_image": np.bool_}.get(name, np.floating)
        if not np.issubdtype(arrays[name].dtype, kind):
            raise ValueError(f"{path}: {name} is of {arrays[name].dtype}, must be of {kind.__name__}; export it again")
    return dataclasses.replace(cameras, points=PointMaps(**{name: arrays[name] for name in names_of_points}))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays; either all of the points or none."""
    try:
        with Npz(path) as file:
            arrays = {name: file[name] for name in ("names", *POINTS, "error") if name in file}
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: does not open ({error}); export it again") from error
    missing = [name for name in ("names", *POINTS) if name not in arrays]
    if missing not in ([], list(POINTS)) or (missing and "error" in arrays):
        raise ValueError(f"{path}: has no array {', '.join(missing)}; export it again")
    return arrays
