"""Where scenes come from: every source by name, imported when it is asked for."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from rig3r_jax.data.source import Source, filled_options

SOURCES = {  # name: module below this folder, and the class in it
    "procedural": "procedural.source:Procedural",
    "ddad": "dgp:Dgp",
    "tum": "tum:Tum",
    "sevenscenes": "sevenscenes:SevenScenes",
    "nuscenes": "nuscenes:NuScenes",
    "waymo": "waymo:Waymo",
    "kitti_odometry": "kitti_odometry:KittiOdometry",
    "kitti360": "kitti360:Kitti360",
    "kitti_raw": "kitti_raw:KittiRaw",
    "argoverse2": "argoverse2:Argoverse2",
    "pandaset": "pandaset:PandaSet",
    "vkitti2": "vkitti2:VirtualKitti2",
    "tartanair2": "tartanair2:TartanAir2",
    "pointodyssey": "pointodyssey:PointOdyssey",
    "blendedmvs": "blendedmvs:BlendedMvs",
    "mapfree": "mapfree:MapFree",
    "co3d": "co3d:Co3d",
    "folder": "folder.source:Folder",
    "colmap": "colmap:Colmap",
    "transforms": "transforms:Transforms",
    "wayvescenes": "colmap:WayveScenes",
    "scannetpp": "colmap:ScanNetPp",
    "euroc": "euroc:Euroc",
    "hilti": "hilti:Hilti",
    "kapture": "kapture:KaptureSource",
    "mvimgnet": "mvimgnet:MvImgNet",
    "123d": "py123d_logs:Py123d",
}


def source_class(name: str) -> type[Source]:
    """The source of this name. ValueError where there is none."""
    if name not in SOURCES:
        nearest = difflib.get_close_matches(name, SOURCES, 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown source {name!r}; sources: {', '.join(SOURCES)}{hint}")
    module, _, kind = SOURCES[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)


def make_source(name: str, root: str = "", options: Mapping[str, Any] | None = None) -> Source:
    """The source with these options, defaults for the others. ValueError naming the source and what cannot hold."""
    kind = source_class(name)
    try:
        return kind(root=root, **filled_options(kind, options or {}))
    except ValueError as error:
        raise ValueError(f"source {name!r}: {error}") from None
