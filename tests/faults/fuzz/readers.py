"""Every reader of files with a small valid corpus: a new reader gets a line in `readers`."""

import dataclasses
import importlib
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.build_groups import list_scenes
from rig3r_jax.data.depth_files import DEPTH_READERS, read_pixels
from rig3r_jax.data.frame_bytes import decode_depth, decode_mask, encode_depth, encode_mask
from rig3r_jax.data.guard import guarded
from rig3r_jax.data.image_bytes import decode_image, read_image
from rig3r_jax.data.records import scene_to_example
from rig3r_jax.data.scene import BadRecord, DenseDepth, SparseDepth
from rig3r_jax.data.sources import make_source
from tests.conftest import REPO
from tests.data.source_cases import CASES

SHARED = Path(os.environ.get("RIG3R_SHARED", REPO.parent / "shared")).resolve()
_OF_SHARED = ("ddad",)  # sources whose case is a copy of recordings there


@dataclasses.dataclass(frozen=True)
class Reader:
    """How files of a kind are made and read."""

    make: Callable[[Path], object]  # writes a corpus into an empty folder; returns what `read` takes, None: the folder
    read: Callable[[Path], object]
    names: bool = True  # whether its errors name a file


# What readers import when they are first used: imported before processes are forked, not in each of them.
_LATE = (
    "pyarrow.feather", "pyarrow.parquet", "yaml", "msgpack", "laspy", "lazrs", "OpenEXR", "pycolmap", "simplejpeg",
    "rig3r_jax.geometry.lenses", "rig3r_jax.geometry.depth", "rig3r_jax.data.build", "rig3r_jax.data.record_source",
)  # fmt: skip


def readers() -> dict[str, Reader]:
    """All of them by name; those of data sets begin with `source:`."""
    for module in _LATE:
        importlib.import_module(module)
    return {**_arrays(), **_images(), **_clouds(), **_weights(), **_texts(), **_folders(), **_sources()}


def _file(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make


def _saved(save: Callable, *arguments, **named) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arguments, **named)
    return buffer.getvalue()


_POINTS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def _arrays() -> dict[str, Reader]:
    from rig3r_jax.evaluation.systems.read_arrays import read_arrays
    from rig3r_jax.formats.frame_pickle import read_data_frame
    from rig3r_jax.formats.npz import Npz, read_npy
    from rig3r_jax.formats.tfrecord import read_record, record_places
    from rig3r_jax.viz.tfevents import read_scalars
    from tests.data.written.frame_pickles import pickled_frame
    from tests.viz.histories_test import old_scalar, write_events

    poses = np.tile(np.eye(4), (3, 1, 1))
    systems = {"world_from_camera": poses, "depth": np.ones((3, 4, 5)), "times": np.arange(3.0)}

    def events(folder: Path) -> Path:
        path = folder / "events.out.tfevents.1"
        write_events(path, old_scalar)
        return path

    def records(folder: Path) -> Path:
        path = folder / "records.tfrecord"
        path.write_bytes(b"".join(struct.pack("<QI", 5, 0) + b"abcde" + bytes(4) for _ in range(4)))
        return path

    frame = {"x": [1.0, 2.5], "y": [3.0, 4.0], "label": ["Car", "Bus"]}
    return {
        "npy": Reader(_file("a.npy", lambda: _saved(np.save, _POINTS)), lambda path: read_npy(path.read_bytes(), path)),
        "npz": Reader(
            _file("a.npz", lambda: _saved(np.savez_compressed, a=_POINTS, b=np.arange(9))), lambda path: dict(Npz(path))
        ),
        "arrays of systems": Reader(_file("a.npz", lambda: _saved(np.savez, **systems)), read_arrays),
        "pandas pickle": Reader(
            _file("a.pkl", lambda: _saved(pickled_frame, frame, False)),
            lambda path: read_data_frame(path.read_bytes(), path),
        ),
        "TFRecord": Reader(records, lambda path: [read_record(path, place) for place in record_places(path)]),
        "TensorBoard events": Reader(events, lambda path: list(read_scalars(path))),
        "depth bytes": Reader(
            _file("a", lambda: encode_depth(DenseDepth(np.ones((4, 5), np.float16)))),
            lambda path: decode_depth(path.read_bytes()),
            names=False,
        ),
        "sparse depth bytes": Reader(
            _file("a", lambda: encode_depth(SparseDepth(_POINTS[:, :2], _POINTS[:, 2], _POINTS[:, 3] > 0))),
            lambda path: decode_depth(path.read_bytes()),
            names=False,
        ),
        "mask bytes": Reader(
            _file("a", lambda: encode_mask(np.eye(9, dtype=bool))),
            lambda path: decode_mask(path.read_bytes()),
            names=False,
        ),
    }


def _images() -> dict[str, Reader]:
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (56, 40))
    depth = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56)

    def image(suffix: str, content: bytes) -> Reader:
        def read(path: Path) -> None:
            data = read_image(path)[0]
            for reduction in (1, 8):
                try:
                    decode_image(data, reduction)
                except BadRecord:
                    pass  # named by who draws the frame

        return Reader(_file(f"a{suffix}", lambda: content), read)

    def exr(folder: Path) -> Path:
        import OpenEXR

        path = folder / "a.exr"
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"Z": depth.astype(np.float32)}) as file:
            file.write(str(path))
        return path

    kinds = {
        "jpeg": (".jpg", ".jpg"), "png": (".png", ".png"), "webp": (".webp", ".webp"), "bmp": (".bmp", ".bmp"),
        "tiff": (".tiff", ".tiff"), "ppm": (".ppm", ".ppm"), "jpeg 2000": (".jp2", ".jp2"),
    }  # fmt: skip
    found = {
        f"image: {name}": image(suffix, cv2.imencode(encoding, pixels)[1].tobytes())
        for name, (suffix, encoding) in kinds.items()
    }
    for name in ("GIF", "AVIF"):
        found[f"image: {name.lower()}"] = image(f".{name.lower()}", _saved(Image.fromarray(pixels).save, name))
    pfm = b"Pf\n56 40\n-1.0\n" + depth.astype("<f4").tobytes()
    from rig3r_jax.data.sources.depth_images import read_pfm

    return found | {
        "depth: png": Reader(_file("a.png", lambda: cv2.imencode(".png", depth)[1].tobytes()), DEPTH_READERS[".png"]),
        "depth: npz": Reader(_file("a.npz", lambda: _saved(np.savez, depth)), DEPTH_READERS[".npz"]),
        "depth: exr": Reader(exr, DEPTH_READERS[".exr"]),
        "depth: pfm": Reader(_file("a.pfm", lambda: pfm), read_pfm),
        "pixels": Reader(
            _file("a.png", lambda: cv2.imencode(".png", pixels)[1].tobytes()), lambda path: read_pixels(path, grey=True)
        ),
    }


def _clouds() -> dict[str, Reader]:
    from rig3r_jax.formats.ply import read_ply, write_ply
    from rig3r_jax.formats.point_cloud import read_points

    head = "VERSION .7\nFIELDS x y z i\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 20\nHEIGHT 1\nPOINTS 20\n"
    rows = "\n".join(" ".join(map(str, row)) for row in _POINTS)
    ascii_ply = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
    ascii_ply += "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 1 2\n3 4 5\n2 0 1\n"

    def las(suffix: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            import laspy

            cloud = laspy.create(point_format=0)
            cloud.x, cloud.y, cloud.z = _POINTS[:, :3].T.astype(np.float64)
            cloud.write(str(folder / f"a{suffix}"))
            return folder / f"a{suffix}"

        return make

    def ply(folder: Path) -> Path:
        write_ply(folder / "a.ply", _POINTS[:, :3], np.zeros((20, 3), np.uint8), np.ones(20))
        return folder / "a.ply"

    contents = {
        ".bin": _POINTS.tobytes(), ".npy": _saved(np.save, _POINTS),
        ".npz": _saved(np.savez_compressed, points=_POINTS),
        ".pcd": head.encode() + b"DATA binary\n" + _POINTS.tobytes(),
    }  # fmt: skip
    found = {
        f"points: {suffix}": Reader(_file(f"a{suffix}", lambda data=data: data), read_points)
        for suffix, data in contents.items()
    }
    return found | {
        "points: ascii .pcd": Reader(_file("a.pcd", lambda: f"{head}DATA ascii\n{rows}\n".encode()), read_points),
        "points: .las": Reader(las(".las"), read_points),
        "points: .laz": Reader(las(".laz"), read_points),
        "ply": Reader(ply, read_ply),
        "ascii ply": Reader(_file("a.ply", lambda: ascii_ply.encode()), read_ply),
    }


def _weights() -> dict[str, Reader]:
    from rig3r_jax.weights.files import read_metadata, read_weights, write_tensors

    tensors = {"a.weight": _POINTS, "b": np.arange(6, dtype=np.int64), "c": np.zeros((0, 3), np.float16)}

    def read(path: Path) -> None:
        for array in read_weights(path).tensors.values():
            np.array(array)
        read_metadata(path)

    def safetensors(folder: Path) -> Path:
        write_tensors(folder / "a.safetensors", tensors, {"format": "pt"})
        return folder / "a.safetensors"

    def index(folder: Path) -> Path:
        safetensors(folder)
        path = folder / "a.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "a.safetensors")}))
        return path

    def pth(folder: Path) -> Path:
        from tests.faults.fuzz.checkpoints import write_checkpoint

        return write_checkpoint(folder / "a.pth", {"model": {"a.weight": _POINTS, "b": np.arange(6)}, "epoch": 3})

    return {
        "safetensors": Reader(safetensors, read),
        "weights index": Reader(index, read),
        "PyTorch checkpoint": Reader(pth, read),
    }


def _texts() -> dict[str, Reader]:
    from rig3r_jax.data.files import read_json, read_json_rows, read_numbers
    from rig3r_jax.formats import image_times, json_file, kalibr, lens_table, pose_csv, rig_config, transforms_json, tum
    from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
    from rig3r_jax.formats.g2o import read_g2o
    from rig3r_jax.formats.kitti_poses import read_poses
    from tests.exports.reconstructions import rig_of_three
    from tests.formats.calibration_files_test import CAMCHAIN

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
    found = {
        name: Reader(_file(file, lambda text=text: text.encode()), read) for name, (file, text, read) in listed.items()
    }
    return found | {
        "cameras.json": Reader(cameras, read_cameras),
        "transforms.json": Reader(transforms, transforms_json.read_transforms),
    }


def _folders() -> dict[str, Reader]:
    from rig3r_jax.data.record_source import RecordSource
    from rig3r_jax.formats.colmap import read_model
    from rig3r_jax.formats.kapture import read_kapture
    from tests.data import rig_folders
    from tests.data.recordings import make_listed_scene

    def colmap(binary: bool) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            import pycolmap

            rig_folders.make_colmap(folder / "rig")
            (place,) = {path.parent for path in folder.rglob("images.txt")}
            if binary:
                model = pycolmap.Reconstruction(str(place))
                for path in place.iterdir():
                    path.unlink()
                model.write_binary(str(place))
            return place

        return make

    def records(folder: Path) -> Path:
        from rig3r_jax.data.build import build_records

        source = make_source("sevenscenes", str(make_listed_scene(folder / "chess")), {"window": 8, "min_frames": 3})
        build_records("sevenscenes", source, folder / "records", progress=False)
        return folder / "records"

    def read_records(folder: Path) -> None:
        for scene in RecordSource(folder, "train"):
            for frame in scene.frames:
                decode_depth(frame.depth)

    return {
        "COLMAP, text": Reader(colmap(False), read_model),
        "COLMAP, binary": Reader(colmap(True), read_model),
        "kapture": Reader(lambda folder: rig_folders.make_kapture(folder / "office"), read_kapture),
        "records": Reader(records, read_records),
    }


def _sources() -> dict[str, Reader]:
    def reader(name: str) -> Reader:
        case = CASES[name]

        def read(root: Path) -> None:
            source = make_source(name, str(root), case.options)
            for scenes in list_scenes(source).values():
                for scene_name, load in scenes:
                    try:
                        scene = guarded(f"scene {scene_name}", lambda load=load: without_bad_frames(load()))
                        scene_to_example(scene, 0)
                    except BadRecord:
                        pass  # the scene's own end
            source.left_out(), source.notes()

        return Reader(lambda folder: case.make(SHARED, folder / name), read)

    made = [name for name, case in CASES.items() if case.make and (name not in _OF_SHARED or SHARED.is_dir())]
    return {f"source: {name}": reader(name) for name in made}
