"""Readers of calibrations, poses, times and other text."""

import json
from pathlib import Path

import numpy as np

from rig3r_jax.data.files import read_json, read_json_rows, read_numbers
from rig3r_jax.formats import image_times, json_file, kalibr, lens_table, pose_csv, rig_config, transforms_json, tum
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.formats.g2o import read_g2o
from rig3r_jax.formats.kitti_poses import read_poses
from tests.exports.reconstructions import rig_of_three
from tests.faults.fuzz.reader import Reader, in_file
from tests.formats.calibration_files_test import CAMCHAIN


def text_readers() -> dict[str, Reader]:
    """Readers by name."""

    def cameras(folder: Path) -> Path:
        write_cameras(folder / "cameras.json", rig_of_three("brown"))
        return folder / "cameras.json"

    def transforms(folder: Path) -> Path:
        frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist()} for i in range(3)]
        path = folder / "transforms.json"
        path.write_text(json.dumps({"fl_x": 50, "fl_y": 51, "cx": 32, "cy": 24, "w": 64, "h": 48, "frames": frames}))
        return path

    rig = [{"cameras": [
        {"image_prefix": "a/", "ref_sensor": True, "camera_model_name": "PINHOLE", "camera_params": [50, 50, 32, 24]},
        {"image_prefix": "b/", "cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [0.1, 0, 0]},
    ]}]  # fmt: skip
    pose = "0.1 0.2 0.3 0 0 0 1"
    vertices = "".join(f"VERTEX_SE3:QUAT {i} {pose}\n" for i in range(3))
    information = " ".join("1" if row == column else "0" for row in range(6) for column in range(row, 6))
    graph = vertices + "".join(f"EDGE_SE3:QUAT {i} {i + 1} {pose} {information}\n" for i in range(2))
    trajectory = "".join(f"{i}.5 {pose}\n" for i in range(5))
    lenses = "name, model, width, height, params\nfront, PINHOLE, 1600, 900, 1266, 1266, 816, 491\n"
    csv = "time, x, y, z, qx, qy, qz, qw\n" + "".join(f"{i}.5, {pose.replace(' ', ', ')}\n" for i in range(4))
    kitti = "1 0 0 0 0 1 0 0 0 0 1 0\n" * 3
    listed = {
        "json lines": ("a.jsonl", '{"step": 1}\n{"step": 2}\n', lambda path: list(json_file.read_json_lines(path))),
        "json": ("a.json", '{"a": [1, 2.5, "x", null]}', read_json),
        "json rows": ("a.json", '[{"a": 1}, {"b": [2, "x"]}]', lambda path: list(read_json_rows(path))),
        "matrix": ("a.txt", "1 2 3\n4 5 6\n", lambda path: read_numbers(path, (2, 3))),
        "rig_config.json": ("rig_config.json", json.dumps(rig), rig_config.read_rig_config),
        "camchain.yaml": ("camchain.yaml", CAMCHAIN, kalibr.read_camchain),
        "lens table": ("lenses.csv", lenses, lens_table.read_lens_table),
        "pose table": ("poses.csv", csv, pose_csv.read_pose_table),
        "g2o": ("a.g2o", graph, read_g2o),
        "KITTI poses": ("poses.txt", kitti, read_poses),
        "TUM trajectory": ("a.txt", trajectory, tum.read_trajectory),
        "TUM list": ("rgb.txt", "1.5 rgb/1.png\n2.5 rgb/2.png\n", tum.read_file_list),
        "image times": ("times.txt", "1.5 a.png\n2.5 b.png\n", image_times.read_image_times),
    }
    texts = {
        name: Reader(in_file(file, lambda text=text: text.encode()), read)
        for name, (file, text, read) in listed.items()
    }
    return texts | {
        "cameras.json": Reader(cameras, read_cameras),
        "transforms.json": Reader(transforms, transforms_json.read_transforms),
    }
