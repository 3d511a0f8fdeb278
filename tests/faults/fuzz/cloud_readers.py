"""Readers of point clouds."""

from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np

from rig3r_jax.formats.ply import read_ply, write_ply
from rig3r_jax.formats.point_cloud import read_points
from tests.faults.fuzz.reader import POINTS, Reader, in_file, saved


def cloud_readers() -> dict[str, Reader]:
    """Readers by name."""
    head = "VERSION .7\nFIELDS x y z i\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 20\nHEIGHT 1\nPOINTS 20\n"
    rows = "\n".join(" ".join(map(str, row)) for row in POINTS)
    ascii_ply = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
    ascii_ply += "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 1 2\n3 4 5\n2 0 1\n"

    def las(suffix: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            cloud = laspy.create(point_format=0)
            cloud.x, cloud.y, cloud.z = POINTS[:, :3].T.astype(np.float64)
            cloud.write(str(folder / f"a{suffix}"), laz_backend=laspy.LazBackend.Lazrs)  # in forked processes, too
            return folder / f"a{suffix}"

        return make

    def ply(folder: Path) -> Path:
        write_ply(folder / "a.ply", POINTS[:, :3], np.zeros((20, 3), np.uint8), np.ones(20))
        return folder / "a.ply"

    contents = {
        ".bin": POINTS.tobytes(), ".npy": saved(np.save, POINTS),
        ".npz": saved(np.savez_compressed, points=POINTS),
        ".pcd": head.encode() + b"DATA binary\n" + POINTS.tobytes(),
    }  # fmt: skip
    clouds = {
        f"points: {suffix}": Reader(in_file(f"a{suffix}", lambda data=data: data), read_points)
        for suffix, data in contents.items()
    }
    return clouds | {
        "points: ascii .pcd": Reader(in_file("a.pcd", lambda: f"{head}DATA ascii\n{rows}\n".encode()), read_points),
        "points: .las": Reader(las(".las"), read_points),
        "points: .laz": Reader(las(".laz"), read_points),
        "ply": Reader(ply, read_ply),
        "ascii ply": Reader(in_file("a.ply", lambda: ascii_ply.encode()), read_ply),
    }
