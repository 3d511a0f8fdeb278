"""A small data set of every source, by the writers of its layout. A new source gets a line in CASES."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tests.data import rig_folders
from tests.data.kitti_drives import DRIVE as KITTI360_DRIVE
from tests.data.kitti_drives import write_360, write_odometry, write_raw
from tests.data.nuscenes_drive import write_nuscenes
from tests.data.py123d_drive import write_log
from tests.data.recordings import copy_rig, make_listed_scene, make_recording
from tests.data.waymo_drive import NAME as WAYMO_SEGMENT
from tests.data.waymo_drive import write_v2
from tests.data.written.argoverse2 import write_argoverse2
from tests.data.written.co3d import write_co3d
from tests.data.written.mvimgnet import write_mvimgnet
from tests.data.written.pandaset import write_pandaset
from tests.data.written.singles import write_blendedmvs, write_mapfree, write_pointodyssey
from tests.data.written.tartanair2 import write_tartanair2
from tests.data.written.vkitti2 import write_vkitti2


@dataclasses.dataclass(frozen=True)
class Case:
    """A small data set of a source."""

    options: dict
    make: Callable[[Path, Path], Path] | None = None  # (shared folder, new folder) -> root; None: the source needs none
    damaged: str = ""  # a file of one scene, below the root
    damaged_scene: str = ""  # (split, name) of it, as split/name


def made(write, folder, *args, **options):
    """The folder that a writer filled."""
    write(folder, *args, **options)
    return folder


CASES = {
    "procedural": Case(
        {"train_worlds": 2, "test_worlds": 1, "fixed_rigs": 2, "max_cameras": 2, "steps": 2, "image_size": 16}
    ),
    "ddad": Case(
        {"cameras": ["CAMERA_01", "CAMERA_06"], "window": 2},
        copy_rig,
        "scene_02/scene_*.json",
        "train/scene_02",
    ),
    "tum": Case(
        {"intrinsics": [50, 50.0, 31.5, 23.5], "window": 12, "min_frames": 4},
        lambda _, folder: make_recording(folder / "desk", 40, size=(48, 64)),
        "depth/9.png",
        "train/desk_00009",
    ),
    "sevenscenes": Case(
        {"window": 8, "min_frames": 3},
        lambda _, folder: make_listed_scene(folder / "chess"),
        "seq-01/frame-000002.depth.png",
        "train/chess_seq-01_000000",
    ),
    "nuscenes": Case(
        {"version": "v1.0-mini"},
        lambda _, folder: made(write_nuscenes, folder),
        "samples/CAM_BACK/scene-0061__CAM_BACK__1532402927637951.jpg",
        "train/scene-0061",
    ),
    "waymo": Case(
        {"window": 2},
        lambda _, folder: made(write_v2, folder, lidar=False),
        "camera_calibration/*.parquet",
        f"train/{WAYMO_SEGMENT}",
    ),
    "kitti_odometry": Case(
        {"window": 3},
        lambda _, folder: made(write_odometry, folder),
        "sequences/00/velodyne/000001.bin",
        "train/00",
    ),
    "kitti360": Case(
        {"window": 3, "cameras": ["image_00", "image_03"]},
        lambda _, folder: made(write_360, folder),
        "data_2d_raw/*/image_03/data_rgb/0000000004.png",
        f"train/{KITTI360_DRIVE}_0000000003",
    ),
    "kitti_raw": Case(
        {"window": 3},
        lambda _, folder: made(write_raw, folder),
        "*/*/image_03/data/0000000001.png",
        "train/2011_09_26_drive_0001_sync",
    ),
    "argoverse2": Case(
        {"window": 2},
        lambda _, folder: write_argoverse2(folder).root,
        "train/*/city_SE3_egovehicle.feather",
        "train/00a6ffc1-6ce9-3bc3-a060-6006e9893a1a_00000",
    ),
    "pandaset": Case(
        {"window": 2, "test_share": 0.0},
        lambda _, folder: write_pandaset(folder).root,
        "001/lidar/01.pkl.gz",
        "train/001_00000",
    ),
    "vkitti2": Case(
        {"window": 3, "test_share": 0.0},
        lambda _, folder: write_vkitti2(folder).root,
        "Scene01/clone/frames/depth/Camera_1/depth_00001.png",
        "train/Scene01_clone_00000",
    ),
    "tartanair2": Case(
        {"window": 1, "test_share": 0.0},
        lambda _, folder: write_tartanair2(folder).root,
        "*/*/*/depth_lcam_right/000001_lcam_right_depth.png",
        "train/AbandonedCable_easy_P000_00001",
    ),
    "pointodyssey": Case(
        {"window": 3},
        lambda _, folder: write_pointodyssey(folder).root,
        "train/*/anno.npz",
        "train/ani1_new__00000",
    ),
    "blendedmvs": Case(
        {"window": 2},
        lambda _, folder: write_blendedmvs(folder).root,
        "5a3ca9cb270f0e3f14d0eddb/rendered_depth_maps/00000001.pfm",
        "train/5a3ca9cb270f0e3f14d0eddb_00001",
    ),
    "mapfree": Case(
        {"window": 8},
        lambda _, folder: write_mapfree(folder).root,
        "train/s00000/intrinsics.txt",
        "train/s00000_seq0_00000",
    ),
    "co3d": Case(
        {"window": 3},
        lambda _, folder: write_co3d(folder).root,
        "apple/110_13051_23361/depths/frame000003.jpg.geometric.png",
        "train/apple_110_13051_23361_00002",
    ),
    "folder": Case(
        {"window": 8, "longest_gap": 0.3},
        lambda _, folder: rig_folders.make_folder(folder / "rig"),
        "poses.txt",
        "train/rig",
    ),
    "colmap": Case(
        {"window": 8}, lambda _, folder: rig_folders.make_colmap(folder / "rig"), "sparse/0/images.txt", "train/rig"
    ),
    "transforms": Case(
        {"window": 8},
        lambda _, folder: rig_folders.make_transforms(folder / "rig").parent,
        "rig/transforms.json",
        "train/rig",
    ),
    "wayvescenes": Case(
        {"front": "left"},
        lambda _, folder: rig_folders.make_wayve(folder),
        "scene_001/colmap_sparse/rig/images.txt",
        "train/scene_001",
    ),
    "scannetpp": Case(
        {"fractions": [0.5, 0.5, 0]},
        lambda _, folder: rig_folders.make_scannetpp(folder, ".jpg"),
        "data/0a5c013435/dslr/colmap/images.txt",
        "train/0a5c013435",
    ),
    "euroc": Case(
        {"window": 8},
        lambda _, folder: rig_folders.make_euroc(folder / "V1_01_easy"),
        "mav0/cam0/sensor.yaml",
        "train/V1_01_easy",
    ),
    "hilti": Case(
        {"window": 8},
        lambda _, folder: rig_folders.make_hilti(folder / "exp04"),
        "lidar/fastlio2_odom.txt",
        "train/exp04",
    ),
    "kapture": Case(
        {"window": 8},
        lambda _, folder: rig_folders.make_kapture(folder / "office"),
        "sensors/trajectories.txt",
        "train/office",
    ),
    "mvimgnet": Case(
        {"window": 8, "test_share": 0.0},
        lambda _, folder: write_mvimgnet(folder).root,
        "0/0f01c3e5/images/002.jpg",
        "train/0_0f01c3e5_00000",
    ),
    "123d": Case(
        {"window": 2},
        lambda _, folder: made(write_log, folder),
        "logs/nuscenes_train/*/camera.pcam_l0.arrow",
        "train/nuscenes_train_scene-0061",
    ),
}
