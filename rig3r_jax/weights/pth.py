"""PyTorch checkpoints (.pth, .pt) without PyTorch: arrays mapped from the file, and no code of the file is ever run.

A checkpoint is a zip archive of one pickle and of raw storages. A pickle may name any function and have it called; this
reader hands out a fixed list of inert stand-ins of its own and refuses every other name, before anything is called.
"""

import io
import math
import pickle
import typing
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

_STORAGES = {
    "torch.DoubleStorage": np.float64,
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": jnp.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}

# What checkpoints hold beside tensors, in `args`, `epoch` or an optimizer: it is read over and means nothing here.
_INERT = {
    "argparse.Namespace",
    *(f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath")),
    *(f"pathlib.{name}" for name in ("PureWindowsPath", "_local.PosixPath", "_local.WindowsPath")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray", "bool_", "float32", "float64", "int32", "int64")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Float16", "Float32", "Float64", "Int32", "Int64", "UInt8")),
    "_codecs.encode",
    "collections.defaultdict",
    "torch.device",
    *(f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    "typing.Any",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "float", "str")),
}

_STATE_DICTS = ("model", "state_dict", "model_state_dict", "teacher")  # where a checkpoint may keep its weights
_LARGEST = 2**48  # numbers in a tensor: strides of 0 promise any shape without a byte behind it
_RESAVE = "re-save it with a recent PyTorch: torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"


# Tuples, for the pickle cannot change what is in them.
class _Storage(typing.NamedTuple):
    kind: str
    key: str


class _Tensor(typing.NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Nothing:
    """Takes whatever a pickle does to an object, and forgets it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


class _Dict(dict):
    """An OrderedDict without the attributes that PyTorch hangs on it."""

    def __setstate__(self, state):
        pass


class _Refused(ValueError):
    pass


class _Unpickler(pickle.Unpickler):
    """Knows the names above. What it hands out is bound to one reading, so that a file cannot spoil the next one."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self._known = {
            "collections.OrderedDict": type("OrderedDict", (_Dict,), {}),
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor_v2": lambda *arguments: _tensor(*arguments),
            "torch._utils._rebuild_parameter": lambda tensor, *unused: tensor,
            **{
                f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)
            },
            **{name: name for name in _STORAGES},
        }

    def find_class(self, module: str, name: str):
        full = f"{module}.{name}"
        if full in _INERT and full not in self._known:
            self._known[full] = type(name.rpartition(".")[2], (_Nothing,), {})
        if full not in self._known:
            raise _Refused(f"asks for {full}, which is none of the harmless names of a checkpoint; nothing was run")
        return self._known[full]

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in _STORAGES):
            raise _Refused(f"refers to storages of a kind that this reader does not know; {_RESAVE}")
        return _Storage(pid[1], str(pid[2]))


def _tensor(storage, offset, shape, strides, *unused) -> _Tensor:
    sizes = (offset, *shape, *strides)
    whole = all(isinstance(value, int) and value >= 0 for value in sizes)
    whole = whole and len(shape) == len(strides) and math.prod(shape) < _LARGEST
    if not isinstance(storage, _Storage) or not whole:
        raise _Refused("describes a tensor that cannot be; fetch it again")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """The state dict of a checkpoint: under `model`, `state_dict`, `model_state_dict` or `teacher`, else at its top.

    Arrays are read-only views of the file, shared where it shares.

    Raises:
        ValueError: the file is cut short, of PyTorch's old format, names something to run, or is ambiguous.
    """
    path = Path(path)
    archive = _Archive(path)
    try:
        content = _Unpickler(archive.pickle).load()
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # a pickle may fail in any way at all
        raise ValueError(
            f"{path}: its pickle cannot be read ({type(error).__name__}: {error}); fetch it again"
        ) from error
    tensors = _state_dict(path, content)
    return {name: archive.array(name, tensor) for name, tensor in tensors.items()}


class _Archive:
    """The zip archive: its pickle, and arrays on its storages."""

    def __init__(self, path: Path):
        self._path = path
        with open(path, "rb") as file:
            start = file.read(4)
        if start != b"PK\x03\x04":
            raise ValueError(f"{path}: is no zip archive, as PyTorch writes since 1.6 (2020); {_RESAVE}")
        try:
            with zipfile.ZipFile(path) as archive:
                self._infos = {info.filename: info for info in archive.infolist()}
                pickles = [name for name in self._infos if name.count("/") == 1 and name.endswith("/data.pkl")]
                self._root = pickles[0].removesuffix("data.pkl") if pickles else ""
                self.pickle = archive.read(pickles[0]) if pickles else b""
                order = f"{self._root}byteorder"
                self._big_endian = order in self._infos and archive.read(order) == b"big"
        except Exception as error:  # a damaged archive may fail in any way at all
            raise ValueError(f"{path}: is damaged or cut short ({error}); fetch it again") from error
        if len(pickles) != 1 or any("/code/" in name for name in self._infos):
            raise ValueError(f"{path}: is no checkpoint (TorchScript?); {_RESAVE}")
        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._storages: dict[_Storage, np.ndarray] = {}

    def array(self, name: str, tensor: _Tensor) -> np.ndarray:
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
        return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)

    def _storage(self, storage: _Storage) -> np.ndarray:
        if storage in self._storages:
            return self._storages[storage]
        info = self._infos.get(f"{self._root}data/{storage.key}")
        if info is None:
            raise ValueError(f"{self._path}: lacks the storage {storage.key}; the file is damaged, fetch it again")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{self._path}: is compressed, so that it cannot be mapped; {_RESAVE}")
        header = bytes(self._bytes[info.header_offset : info.header_offset + 30])
        start = (
            info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )
        dtype = np.dtype(_STORAGES[storage.kind])
        if header[:4] != b"PK\x03\x04" or start + info.file_size > len(self._bytes) or info.file_size % dtype.itemsize:
            raise ValueError(f"{self._path}: storage {storage.key} is cut short; fetch the file again")
        raw = self._bytes[start : start + info.file_size]
        array = np.ndarray((raw.size // dtype.itemsize,), dtype, raw) if raw.size else np.empty(0, dtype)
        if self._big_endian:
            array = array.view(f"u{dtype.itemsize}").byteswap().view(dtype)
        self._storages[storage] = array
        return array


def _state_dict(path: Path, content: object) -> dict[str, _Tensor]:
    """The one dictionary of tensors that is meant."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no dictionary of tensors; save model.state_dict()")
    keys = ", ".join([name for name in content if isinstance(name, str)][:20])
    places = [name for name in _STATE_DICTS if _has_tensors(content.get(name))]
    direct = not places and _has_tensors(content)  # tensors beside a named place are no weights: a loss, a random state
    if len(places) + direct != 1:
        count = "several dictionaries of weights" if places else "no weights"
        raise ValueError(
            f"{path}: {count} at the top or under {', '.join(_STATE_DICTS)} (its keys: {keys}); "
            "save the one that you want: torch.save(checkpoint[KEY], NEW_FILE)"
        )
    tensors = content if direct else content[places[0]]
    other = [str(name) for name, value in tensors.items() if not isinstance(value, _Tensor)]
    if other or not all(isinstance(name, str) for name in tensors):
        where = "top level" if direct else places[0]
        raise ValueError(
            f"{path}: {where} holds {', '.join(other[:20]) or 'unnamed ones'} beside tensors (top-level keys: {keys}); "
            "save model.state_dict() alone"
        )
    return tensors


def _has_tensors(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(value, _Tensor) for value in content.values())
