"""Kinds of files that a reconstruction is exported to: EXPORTS. A new one is a file beside this and a line here."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from rig3r_jax.exports import (
    cameras,
    colmap_model,
    glb,
    maps,
    npz,
    points,
    rig_file,
    rrd,
    trajectories,
    transforms,
    usdz,
)
from rig3r_jax.exports.job import Job
from rig3r_jax.exports.report import write as report


@dataclasses.dataclass(frozen=True)
class Export:
    """A kind of file: its place below the export's folder, what it holds, and who writes it."""

    write: Callable[[Job, Path], Sequence[str]]  # makes the file or folder at a path; returns notes, raises CannotHold
    path: str
    holds: str  # in words
    requires: tuple[str, ...] = ()  # packages of an extra, as they are imported
    default: bool = True  # what is cheap in time and space


EXPORTS: dict[str, Export] = {
    "cameras": Export(cameras.write, "cameras.json", "cameras, nothing rounded"),
    "colmap": Export(colmap_model.write, "colmap", "COLMAP model with points, rigs and frames", requires=("pycolmap",)),
    "rig": Export(rig_file.write, "rig_config.json", "the rig for COLMAP's rig_configurator"),
    "tum": Export(trajectories.write_tum, "trajectories_tum", "trajectories of the cameras and the rig, TUM"),
    "kitti": Export(trajectories.write_kitti, "trajectories_kitti", "the same in KITTI's format"),
    "transforms": Export(transforms.write, "transforms.json", "cameras for nerfstudio and instant-ngp"),
    "ply": Export(points.write, "points.ply", "coloured points"),
    "glb": Export(glb.write, "scene.glb", "points and frusta, glTF", requires=("trimesh",)),
    "usdz": Export(usdz.write, "scene.usdz", "points, frusta and cameras, USD", requires=("pxr",), default=False),
    "rrd": Export(rrd.write, "scene.rrd", "points and cameras for rerun", requires=("rerun",), default=False),
    "png": Export(maps.write_png, "maps_png", "depth and confidence, 16 bit"),
    "npy": Export(maps.write_npy, "maps_npy", "depth and confidence, float32", default=False),
    "exr": Export(maps.write_exr, "maps_exr", "depth and confidence, float32", requires=("OpenEXR",), default=False),
    "report": Export(report.write, "report.html", "all of it on one page, to share"),
    "npz": Export(npz.write, "reconstruction.npz", "everything in arrays"),
}
