"""Readers of folders: reconstructions, records, and the recordings of every data set."""

import os
from collections.abc import Callable
from pathlib import Path

import pycolmap

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.build import build_records
from rig3r_jax.data.build_groups import list_scenes
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.guard import guarded
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.records import scene_to_example
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources import make_source
from rig3r_jax.formats.colmap import read_model
from rig3r_jax.formats.kapture import read_kapture
from tests.conftest import REPO
from tests.data import rig_folders
from tests.data.recordings import make_listed_scene
from tests.data.source_cases import CASES
from tests.faults.fuzz.reader import Reader

SHARED = Path(os.environ.get("RIG3R_SHARED", REPO.parent / "shared")).resolve()
_OF_SHARED = ("ddad",)  # sources whose case is a copy of recordings there


def folder_readers() -> dict[str, Reader]:
    """Readers by name, but for those of data sets."""

    def colmap(binary: bool) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
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


def source_readers() -> dict[str, Reader]:
    """Readers of data sets, by names that begin with `source:`."""

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
