"""Checkpoints as torch.save writes them, without PyTorch: a zip archive of a pickle, written here opcode by opcode, and
of raw storages."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "int64": "LongStorage", "uint8": "ByteStorage"}


def write_checkpoint(
    path: Path, content: Any, *, packed: bool = False, storages: list[bytes] | None = None, tail: bytes = b""
) -> Path:
    """Writes a tree of dictionaries, text, whole numbers, tuples and arrays, which become tensors.

    Args:
        path: of the file.
        content: the tree.
        packed: whether the pickle is deflated.
        storages: in place of the arrays' own bytes.
        tail: of the pickle, before its end.
    """
    arrays: list[np.ndarray] = []
    data = b"\x80\x02" + _opcodes(content, arrays) + tail + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        archive.writestr("a/byteorder", "little")
        for number, storage in enumerate([array.tobytes() for array in arrays] if storages is None else storages):
            archive.writestr(f"a/data/{number}", storage)
    return path


def _opcodes(value: Any, arrays: list[np.ndarray]) -> bytes:
    """What makes a value on the stack of the machine that reads pickles."""
    if isinstance(value, dict):
        pairs = (_opcodes(key, arrays) + _opcodes(item, arrays) + b"s" for key, item in value.items())
        return b"}" + b"".join(pairs)
    if isinstance(value, str):
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, tuple):
        return b"(" + b"".join(_opcodes(item, arrays) for item in value) + b"t"
    kind = f"ctorch\n{_STORAGES[value.dtype.name]}\n".encode()
    storage = b"(" + _opcodes("storage", []) + kind + _opcodes(str(len(arrays)), []) + _opcodes("cpu", [])
    arrays.append(value)
    strides = tuple(stride // value.itemsize for stride in value.strides)
    arguments = b"".join(_opcodes(item, []) for item in (0, value.shape, strides, False, {}))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _opcodes(value.size, []) + b"tQ" + arguments + b"tR"
