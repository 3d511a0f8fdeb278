"""Readers of arrays and tables of numbers, as NumPy, pandas, TensorFlow and our records store them."""

import struct
from pathlib import Path

import numpy as np

from rig3r_jax.data.frame_bytes import decode_depth, decode_mask, encode_depth, encode_mask
from rig3r_jax.data.scene import DenseDepth, SparseDepth
from rig3r_jax.evaluation.systems.read_arrays import read_arrays
from rig3r_jax.formats.frame_pickle import read_data_frame
from rig3r_jax.formats.npz import Npz, read_npy
from rig3r_jax.formats.tfrecord import read_record, record_places
from rig3r_jax.viz.tfevents import read_scalars
from tests.data.written.frame_pickles import pickled_frame
from tests.faults.fuzz.reader import POINTS, Reader, in_file, saved
from tests.viz.histories_test import old_scalar, write_events


def array_readers() -> dict[str, Reader]:
    """Readers by name."""
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
        "npy": Reader(in_file("a.npy", lambda: saved(np.save, POINTS)), lambda path: read_npy(path.read_bytes(), path)),
        "npz": Reader(
            in_file("a.npz", lambda: saved(np.savez_compressed, a=POINTS, b=np.arange(9))), lambda path: dict(Npz(path))
        ),
        "arrays of systems": Reader(in_file("a.npz", lambda: saved(np.savez, **systems)), read_arrays),
        "pandas pickle": Reader(
            in_file("a.pkl", lambda: saved(pickled_frame, frame, False)),
            lambda path: read_data_frame(path.read_bytes(), path),
        ),
        "TFRecord": Reader(records, lambda path: [read_record(path, place) for place in record_places(path)]),
        "TensorBoard events": Reader(events, lambda path: list(read_scalars(path))),
        "depth bytes": Reader(
            in_file("a", lambda: encode_depth(DenseDepth(np.ones((4, 5), np.float16)))),
            lambda path: decode_depth(path.read_bytes()),
            names=False,
        ),
        "sparse depth bytes": Reader(
            in_file("a", lambda: encode_depth(SparseDepth(POINTS[:, :2], POINTS[:, 2], POINTS[:, 3] > 0))),
            lambda path: decode_depth(path.read_bytes()),
            names=False,
        ),
        "mask bytes": Reader(
            in_file("a", lambda: encode_mask(np.eye(9, dtype=bool))),
            lambda path: decode_mask(path.read_bytes()),
            names=False,
        ),
    }
