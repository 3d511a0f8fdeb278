"""KITTI-360's boxes of what moves, by frame: `data_3d_bboxes/train_full/DRIVE.xml`, or `train`.

A child of the file is an object: `timestamp` is the number of its frame, or -1 of what stands; `vertices`, through
`transform`, are its corners in the world of the poses.
"""

import functools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from rig3r_jax.data.boxes import Box
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry import rigid

_FOLDERS = ("train_full", "train")


def moving_boxes(root: Path, drive: str) -> dict[int, list[Box]] | None:
    """Boxes of objects that move, by frame; None of a drive without a file. BadRecord for a file that is none."""
    for folder in _FOLDERS:
        path = root / "data_3d_bboxes" / folder / f"{drive}.xml"
        if path.is_file():
            return _read(path, path.stat().st_mtime_ns)
    return None


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> dict[int, list[Box]]:
    boxes: dict[int, list[Box]] = {}
    try:
        for _, node in ElementTree.iterparse(path):
            if node.find("transform") is None or node.find("vertices") is None:
                continue
            if (frame := int(node.findtext("timestamp", "-1"))) >= 0:
                boxes.setdefault(frame, []).append(_box(_matrix(node, "transform"), _matrix(node, "vertices")))
            node.clear()
    except (OSError, ElementTree.ParseError, ValueError, AttributeError, TypeError) as error:
        raise BadRecord(f"{path}: does not read as boxes of KITTI-360 ({error}); restore the file") from error
    return boxes


def _matrix(labelled: ElementTree.Element, name: str) -> np.ndarray:
    """As OpenCV writes it: rows, cols, data."""
    node = labelled.find(name)
    return np.array(node.findtext("data").split(), np.float64).reshape(
        int(node.findtext("rows")), int(node.findtext("cols"))
    )


def _box(world_from_vertices: np.ndarray, vertices: np.ndarray) -> Box:
    """The transform may stretch; the box is along its axes and as large as the corners reach."""
    axes = rigid.nearest_rotation(world_from_vertices[:3, :3] / np.linalg.norm(world_from_vertices[:3, :3], axis=0))
    corners = (vertices @ world_from_vertices[:3, :3].T + world_from_vertices[:3, 3]) @ axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    return Box(rigid.from_rotation_translation(axes, axes @ (low + high) / 2), tuple((high - low).tolist()))
