"""PyTorch checkpoints (.pth, .pt, .bin, .ckpt) without PyTorch: arrays mapped from the file; see `unpickle`.

A checkpoint is a zip archive of one pickle and of raw storages.
"""

import typing
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rig3r_jax.formats.declared import check_unpacked
from rig3r_jax.formats.npz import read_member
from rig3r_jax.formats.pickle_sizes import check_opcodes
from rig3r_jax.weights.state_dict import find_state_dict
from rig3r_jax.weights.unpickle import RESAVE, STORAGES, Refused, Storage, StoredTensor, Unpickler


class Weights(typing.NamedTuple):
    """What a file of weights holds."""

    tensors: dict[str, np.ndarray]  # memory-mapped, read-only, in the types of the file
    notes: tuple[str, ...] = ()  # one line each on what was chosen and what was left out


def read_checkpoint(path: str | Path) -> Weights:
    """The state dict of a checkpoint, wherever `find_state_dict` finds it.

    Arrays are read-only views of the file, shared where it shares.

    Raises:
        ValueError: the file is cut short, names something to run, or holds no weights.
    """
    path = Path(path)
    archive = _Archive(path)
    try:
        check_opcodes(archive.pickle)
        content = Unpickler(archive.pickle).load()
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # a pickle may fail in any way at all
        raise ValueError(
            f"{path}: its pickle cannot be read ({type(error).__name__}: {error}); fetch it again"
        ) from error
    tensors, notes = find_state_dict(path, content)
    arrays = {name: archive.array(name, tensor) for name, tensor in tensors.items()}
    # Tensors may share a storage, and repeat it by strides of 0: what is copied out of the file is no more than this.
    check_unpacked(f"{path}: its tensors", sum(array.nbytes for array in arrays.values()), path.stat().st_size)
    return Weights(arrays, notes)


class _Archive:
    """The zip archive: its pickle, and arrays on its storages."""

    def __init__(self, path: Path):
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._infos = {info.filename: info for info in archive.infolist()}
                pickles = [name for name in self._infos if name.count("/") == 1 and name.endswith("/data.pkl")]
                self._root = pickles[0].removesuffix("data.pkl") if pickles else ""
                self.pickle = read_member(archive, self._infos[pickles[0]], path) if pickles else b""
                order = self._infos.get(f"{self._root}byteorder")
                self._big_endian = order is not None and read_member(archive, order, path) == b"big"
        except Exception as error:  # a damaged archive may fail in any way at all
            raise ValueError(f"{path}: is damaged or cut short ({error}); fetch it again") from error
        if len(pickles) != 1 or any("/code/" in name for name in self._infos):
            raise ValueError(f"{path}: {_other_archive(self._infos)}")
        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._storages: dict[Storage, np.ndarray] = {}

    def array(self, name: str, tensor: StoredTensor) -> np.ndarray:
        """The tensor as a view of its storage."""
        storage = self._storage(tensor.storage)
        last = tensor.offset + sum(
            (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        if 0 in tensor.shape:
            return np.empty(tensor.shape, storage.dtype)
        if last >= storage.size:
            raise ValueError(
                f"{self._path}: {name} wants element {last} of a storage of {storage.size}; the file is damaged, "
                "fetch it again"
            )
        strides = [stride * storage.itemsize for stride in tensor.strides]
        numbers = storage.view(np.uint8) if storage.itemsize == 1 else storage  # as_strided knows no float8
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
        return view.view(storage.dtype)

    def _storage(self, storage: Storage) -> np.ndarray:
        if storage in self._storages:
            return self._storages[storage]
        info = self._infos.get(f"{self._root}data/{storage.key}")
        if info is None:
            raise ValueError(f"{self._path}: lacks the storage {storage.key}; the file is damaged, fetch it again")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{self._path}: is compressed, so that it cannot be mapped; {RESAVE}")
        header = bytes(self._bytes[info.header_offset : info.header_offset + 30])
        start = (
            info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )
        dtype = np.dtype(STORAGES[storage.kind])
        if header[:4] != b"PK\x03\x04" or start + info.file_size > len(self._bytes) or info.file_size % dtype.itemsize:
            raise ValueError(f"{self._path}: storage {storage.key} is cut short; fetch the file again")
        raw = self._bytes[start : start + info.file_size]
        array = np.ndarray((raw.size // dtype.itemsize,), dtype, raw) if raw.size else np.empty(0, dtype)
        if self._big_endian:
            array = array.view(f"u{dtype.itemsize}").byteswap().view(dtype)
        self._storages[storage] = array
        return array


def _other_archive(names: Iterable[str]) -> str:
    """What a zip archive is that is no checkpoint, and what to do."""
    if any("/code/" in name for name in names):
        return "is TorchScript, no checkpoint; save torch.jit.load(FILE).state_dict() by torch.save"
    if any(name.endswith(".npy") for name in names):
        return "is a NumPy archive (.npz), no checkpoint; give the PyTorch or .safetensors file that it was made from"
    listed = ", ".join([name for name in names if not name.endswith("/")][:5]) or "nothing"
    return f"is a zip archive of {listed}, no checkpoint; unpack it, and give the weights that are in it"
