"""Readers of weights."""

import json
from pathlib import Path

import numpy as np

from rig3r_jax.weights.files import read_metadata, read_weights, write_tensors
from tests.faults.fuzz.checkpoints import write_checkpoint
from tests.faults.fuzz.reader import POINTS, Reader


def weight_readers() -> dict[str, Reader]:
    """Readers by name."""
    tensors = {"a.weight": POINTS, "b": np.arange(6, dtype=np.int64), "c": np.zeros((0, 3), np.float16)}

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
        return write_checkpoint(folder / "a.pth", {"model": {"a.weight": POINTS, "b": np.arange(6)}, "epoch": 3})

    return {
        "safetensors": Reader(safetensors, read),
        "weights index": Reader(index, read),
        "PyTorch checkpoint": Reader(pth, read),
    }
