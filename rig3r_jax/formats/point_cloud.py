"""Points of LiDAR sweeps and scans, whatever file they are in: .bin .npy .npz .pcd .ply .las .laz."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.las_sizes import check_las
from rig3r_jax.formats.npz import read_npy_or_npz
from rig3r_jax.formats.pcd import read_pcd
from rig3r_jax.formats.ply import read_ply

COLUMNS = 4  # of a .bin: x y z intensity, as KITTI; nuScenes has 5


def read_points(path: str | Path, columns: int = COLUMNS) -> Float[np.ndarray, "n 3"]:
    """x, y, z of the points of a file that are finite, float64, in the file's frame and unit (metres).

    Args:
        path: the file; its suffix tells its kind, one of READERS.
        columns: float32 numbers per point of a .bin, which does not say so itself.

    Raises:
        ValueError: names the file and why it does not read. OSError where there is none.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: a file of points must be one of {', '.join(READERS)}; convert it")
    try:
        points = np.asarray(READERS[path.suffix.lower()](path, columns), np.float64)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: holds no points x y z ({error!r}); restore the file") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: does not read ({error}); restore the file") from error
    return points[np.isfinite(points).all(axis=1)]


def read_las(data: bytes, where: object) -> Float[np.ndarray, "n 3"]:
    """x, y, z of the points of a .las or .laz file; ValueError naming `where`."""
    import laspy  # of the extra `data`

    check_las(data, where)
    try:
        # On this thread alone: the parallel decoder waits for ever in a process that was forked from one that used it.
        return np.asarray(laspy.read(io.BytesIO(data), laz_backend=laspy.LazBackend.Lazrs).xyz)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # laspy and its decoders each raise their own kinds, panics of Rust among them
        raise ValueError(f"{where}: does not read ({error}); restore the file, or store it as .las") from error


def _bin(path: Path, columns: int) -> np.ndarray:
    data = path.read_bytes()
    if columns < 3 or len(data) % (4 * columns):
        raise ValueError(
            f"{path}: {len(data)} bytes are no rows of {columns} float32 numbers; set lidar_columns to the numbers per "
            "point (KITTI 4, nuScenes 5), or restore the file"
        )
    return np.frombuffer(data, "<f4").reshape(-1, columns)[:, :3]


def _npy(path: Path, columns: int) -> np.ndarray:
    array = read_npy_or_npz(path.read_bytes(), path, "points")
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: is {array.dtype} {array.shape}, must be numbers (n, 3 or more): x y z")
    return array[:, :3]


def _ply(path: Path, columns: int) -> np.ndarray:
    return read_ply(path).points_world


def _las(path: Path, columns: int) -> np.ndarray:
    return read_las(path.read_bytes(), path)


def _pcd(path: Path, columns: int) -> np.ndarray:
    return read_pcd(path)


READERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    ".bin": _bin, ".npy": _npy, ".npz": _npy, ".pcd": _pcd, ".ply": _ply, ".las": _las, ".laz": _las,
}  # fmt: skip
