"""Points of LiDAR sweeps and scans, whatever file they are in: .bin .npy .npz .pcd .ply .las .laz."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.foreign import HEAD, describe
from rig3r_jax.formats.las_sizes import check_las
from rig3r_jax.formats.npz import read_npy_or_npz
from rig3r_jax.formats.ply import read_ply

COLUMNS = 4  # of a .bin: x y z intensity, as KITTI; nuScenes has 5
_PCD_TYPES = {"F": "f", "U": "u", "I": "i"}


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
        return np.asarray(laspy.read(io.BytesIO(data)).xyz)
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
    """Of the Point Cloud Library: ascii and binary."""
    data = path.read_bytes()
    end = re.search(rb"^DATA[ \t]+(\w+)[^\n]*\n", data, re.MULTILINE)
    if not end:
        raise ValueError(f"{path}: is no PCD file (has no line DATA) but {describe(data[:HEAD])}")
    lines = (line.split() for line in data[: end.start()].decode("latin-1").splitlines() if line.strip())
    header = {words[0]: words[1:] for words in lines}
    names, counts = header["FIELDS"], [int(count) for count in header.get("COUNT", ["1"] * len(header["FIELDS"]))]
    total, body, encoding = int(header["POINTS"][0]), data[end.end() :], end[1].decode()
    if not set("xyz") <= set(names):
        raise ValueError(f"{path}: has the fields {' '.join(names)}, must have x y z; restore the file")
    if encoding == "ascii":
        words = body.split()
        if len(words) != total * sum(counts):
            raise ValueError(
                f"{path}: has {len(words)} numbers, must be {total} points of {sum(counts)}; restore the file"
            )
        rows = np.array(words, np.float64).reshape(total, sum(counts))
        starts = np.cumsum([0, *counts])
        return np.stack([rows[:, starts[names.index(axis)]] for axis in "xyz"], axis=1)
    if encoding != "binary":
        raise ValueError(
            f"{path}: DATA {encoding} is not read; convert it: pcl_convert_pcd_ascii_binary in.pcd out.pcd 1"
        )
    kinds = (f"<{_PCD_TYPES[kind]}{size}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True))
    fields = [
        (f"{name}#{i}", kind, (count,)) for i, (name, kind, count) in enumerate(zip(names, kinds, counts, strict=True))
    ]
    table = np.dtype(fields)
    if len(body) < total * table.itemsize:
        raise ValueError(f"{path}: has {len(body)} of {total * table.itemsize} bytes of points; restore the file")
    rows = np.frombuffer(body, table, total)
    return np.stack([rows[f"{axis}#{names.index(axis)}"][:, 0] for axis in "xyz"], axis=1)


READERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    ".bin": _bin, ".npy": _npy, ".npz": _npy, ".pcd": _pcd, ".ply": _ply, ".las": _las, ".laz": _las,
}  # fmt: skip
