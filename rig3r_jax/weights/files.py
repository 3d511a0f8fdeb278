"""Weight files as mappings of names to memory-mapped arrays; nothing of a file is ever executed."""

import json
import mmap
import typing
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from rig3r_jax.formats.atomic import whole_file
from rig3r_jax.formats.declared import check_present
from rig3r_jax.weights.file_kind import INDEX, PYTORCH, SAFETENSORS, weights_kind
from rig3r_jax.weights.names import unwrapped
from rig3r_jax.weights.parts import read_parts
from rig3r_jax.weights.pth import Weights, read_checkpoint

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of `read_weights`."""
    return read_weights(path).tensors


def read_weights(path: str | Path) -> Weights:
    """The tensors of a .safetensors file, a PyTorch checkpoint, or the index of one in parts (`*.index.json`).

    The content tells which, not the suffix. What wrappers put into the names is taken away (`names.unwrapped`).

    Raises:
        ValueError: the file is damaged, of another kind, or wants code to be run; says what it is.
    """
    path = Path(path)
    kind = weights_kind(path)
    weights = read_parts(path, _read) if kind == INDEX else _read(path)
    return weights._replace(tensors=unwrapped(weights.tensors))


def _read(path: Path) -> Weights:
    kind = weights_kind(path)
    if kind == INDEX:
        raise ValueError(f"{path}: is an index where a part is wanted; fetch index and parts of one version")
    if kind == PYTORCH:
        return read_checkpoint(path)
    return Weights(_read_safetensors(path))


def _read_safetensors(path) -> dict[str, np.ndarray]:
    header, start = _header(path)
    data = np.memmap(path, np.uint8, mode="r") if any(info["data_offsets"][1] for info in header.values()) else b""
    tensors = {}
    for name, info in header.items():
        if info["dtype"] not in _DTYPES:
            raise ValueError(f"{path}: {name} is of type {info['dtype']}; known are {', '.join(_DTYPES)}")
        dtype = np.dtype(_DTYPES[info["dtype"]])
        begin, end = (start + offset for offset in info["data_offsets"])
        tensors[name] = (
            np.ndarray(info["shape"], dtype, data[begin:end]) if end > begin else np.empty(info["shape"], dtype)
        )
    return tensors


def release(array: np.ndarray) -> None:
    """Gives the memory of the pages that were read back to the system, where the array is of a mapped file.

    It stays as it is: what is wanted again is read again. Of a file that is copied to a device array by array no second
    copy stays in memory then.
    """
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a .safetensors file; {} where it has none, and for files of PyTorch and indices."""
    path = Path(path)
    if weights_kind(path) != SAFETENSORS:
        return {}
    with _opened(path) as file:
        return dict(file.metadata() or {})


def write_tensors(
    path: str | Path, tensors: Mapping[str, typing.Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a .safetensors file whole or not at all, one tensor after the other: no second copy of them is held.

    Args:
        tensors: names to arrays of any memory layout; jax arrays come from the device one by one.
        metadata: text that `read_metadata` gives back.
    """
    path = Path(path)
    # Wide types first, as the library writes: every tensor is then aligned to its type.
    order = sorted(tensors, key=lambda name: (-np.dtype(tensors[name].dtype).itemsize, name))
    header, offset = {"__metadata__": dict(metadata)} if metadata else {}, 0
    for name in order:
        tensor, dtype = tensors[name], np.dtype(tensors[name].dtype)
        if dtype not in _NAMES:
            raise ValueError(f"{path}: {name} is of type {dtype}, which .safetensors does not know; cast it first")
        size = int(np.prod(tensor.shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.ascontiguousarray(np.asarray(tensors[name])).reshape(-1)
            file.write(array.view(np.uint8).data)


def _opened(path: Path) -> safetensors.safe_open:
    """The library's reader: it checks types, shapes and offsets of the header."""
    _check_length(path)
    try:
        return safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: is no whole .safetensors file ({error}); fetch or write it again") from error


def _check_length(path: Path) -> None:
    """ValueError where the header, or what it says of the data, is longer than the file."""
    present = path.stat().st_size - 8
    if present < 0:
        return  # the library says so
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        check_present(path, length, present)
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            end = max(map(int, ends), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return  # the library says what is wrong
    check_present(path, end, present - length)


def _header(path: Path) -> tuple[dict[str, dict], int]:
    """Header without metadata, and where the data start."""
    with _opened(path), open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size
