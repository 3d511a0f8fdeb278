"""The pickle of a PyTorch checkpoint without PyTorch, and without ever running code that it names.

A pickle may name any function and have it called. This reader imports nothing: for every name it hands out an inert
stand-in of its own, which forgets what is done to it. A name that no checkpoint has beside its weights is refused.
"""

import io
import math
import pickle
import sys
import typing

import jax.numpy as jnp
import numpy as np

STORAGES = {
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
    "torch.ComplexFloatStorage": np.complex64,
    "torch.ComplexDoubleStorage": np.complex128,
    # Newer types have no storage of their own: the tensor names its type.
    "torch.storage.UntypedStorage": np.uint8,
    "torch.float8_e4m3fn": jnp.float8_e4m3fn,
    "torch.float8_e5m2": jnp.float8_e5m2,
    **{f"torch.uint{bits}": np.dtype(f"u{bits // 8}").type for bits in (16, 32, 64)},
}
RESAVE = "re-save it with a recent PyTorch: torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"

# What checkpoints hold beside tensors, in `args`, `epoch` or an optimizer: it is read over and means nothing here.
_INERT = {
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath")),
    *(f"pathlib.{name}" for name in ("PureWindowsPath", "_local.PosixPath", "_local.WindowsPath")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray", "bool_", "float32", "float64", "int32", "int64")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Float16", "Float32", "Float64", "Int32", "Int64", "UInt8")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Int8", "Int16", "UInt16", "UInt32", "UInt64", "Str", "Object")),
    "_codecs.encode",
    *(f"collections.{name}" for name in ("Counter", "deque")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "enum.Enum", "zoneinfo.ZoneInfo._unpickle"),
    *("copyreg._reconstructor", "copy_reg._reconstructor", "functools.partial", "re._compile", "random.Random"),
    *("torch.device", "torch.torch_version.TorchVersion", "torch.strided", "torch.serialization._get_layout"),
    *(f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
    "torch.float8_e8m0fnu",
    *(f"torch.{name}" for name in ("int16", "int8", "complex64", "complex128", "contiguous_format", "preserve_format")),
    "typing.Any",
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("dict", "list", "int", "float", "str", "bool", "tuple", "bytes", "bytearray", "complex", "object",
                     "range", "xrange", "slice")
    ),
}  # fmt: skip
_INERT_FAMILIES = ("numpy.random.", "torch.nn.", "torch.optim.", "torch.amp.", "torch.cuda.amp.", "torch.distributed.")
# Packages with functions that do harm: of these, nothing but the names above.
_GUARDED = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "torch", "numpy"}

_LARGEST = 2**48  # numbers in a tensor: strides of 0 promise any shape without a byte behind it


# Tuples, for the pickle cannot change what is in them.
class Storage(typing.NamedTuple):
    """A run of numbers in the archive."""

    kind: str  # a key of STORAGES
    key: str


class StoredTensor(typing.NamedTuple):
    """A view of a storage; offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Forgotten:
    """Takes whatever a pickle does to an object, and forgets it; a subclass stands for each name."""

    full_name = ""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        """Of a list."""

    def extend(self, values):
        """Of a list."""

    def add(self, value):
        """Of a set."""


class _Dict(dict):
    """An OrderedDict or defaultdict without the attributes that PyTorch hangs on it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        super().__init__(*(argument for argument in args if isinstance(argument, dict | list)))

    def __setstate__(self, state):
        pass


class Refused(ValueError):
    """The pickle asks for what is not handed out; the message says for what, without the file."""


class Unpickler(pickle.Unpickler):
    """Hands out stand-ins that are bound to one reading, so that a file cannot spoil the next one."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        rebuilders = {
            "torch._utils._rebuild_tensor_v2": lambda *arguments: _tensor(*arguments),
            "torch._utils._rebuild_tensor": lambda *arguments: _tensor(*arguments),
            "torch._utils._rebuild_tensor_v3": lambda *arguments: _tensor_of_type(*arguments),
            "torch._utils._rebuild_parameter": lambda tensor, *unused: tensor,
            "torch._utils._rebuild_parameter_with_state": lambda tensor, *unused: tensor,
        }
        ours = tuple(rebuilders.values())
        self._known = {
            "collections.OrderedDict": type("OrderedDict", (_Dict,), {}),
            "collections.defaultdict": type("defaultdict", (_Dict,), {}),
            "torch.Size": tuple,
            **rebuilders,
            "torch._tensor._rebuild_from_type_v2": lambda rebuild, kind, arguments, state: _rebuilt(
                ours, rebuild, arguments
            ),
            **{
                f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)
            },
            **{name: name for name in STORAGES},
        }

    def find_class(self, module: str, name: str) -> typing.Any:
        """The stand-in of a name; Refused where it is one that could do harm. Nothing is imported."""
        full = f"{module}.{name}"
        if full not in self._known:
            guarded = module.partition(".")[0] in _GUARDED
            if full.startswith("torch._utils._rebuild_"):
                raise Refused(
                    f"holds tensors by {full}: sparse, quantised or without numbers; save them as plain ones: "
                    "tensor.to_dense(), tensor.dequantize()"
                )
            if guarded and full not in _INERT and not full.startswith(_INERT_FAMILIES):
                raise Refused(
                    f"asks for {full}, which is none of the harmless names of a checkpoint; nothing was run: fetch "
                    "the file from its authors, or save model.state_dict() alone"
                )
            self._known[full] = type(name.rpartition(".")[2], (Forgotten,), {"full_name": full})
        return self._known[full]

    def persistent_load(self, pid: object) -> Storage:
        """The storage that a tensor refers to."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in STORAGES):
            raise Refused(f"refers to storages of a kind that this reader does not know; {RESAVE}")
        return Storage(pid[1], str(pid[2]))


def _tensor(storage, offset, shape, strides, *unused) -> StoredTensor:
    sizes = (offset, *shape, *strides)
    whole = all(isinstance(value, int) and value >= 0 for value in sizes)
    whole = whole and len(shape) == len(strides) and math.prod(shape) < _LARGEST
    if not isinstance(storage, Storage) or not whole:
        raise Refused("describes a tensor that cannot be; fetch it again")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _tensor_of_type(storage, offset, shape, strides, requires_grad, hooks, kind, *unused) -> StoredTensor:
    """A tensor that names its type itself."""
    if not isinstance(storage, Storage) or kind not in STORAGES:
        raise Refused(f"holds tensors of the type {getattr(kind, 'full_name', kind)}, which is not known; cast them")
    return _tensor(storage._replace(kind=kind), offset, shape, strides)


def _rebuilt(ours: tuple, rebuild: object, arguments: tuple) -> StoredTensor:
    """A tensor with attributes, by the function that its pickle names: only ever one of `ours`."""
    if not any(rebuild is function for function in ours):
        raise Refused(f"describes a tensor by {rebuild!r}, which this reader does not know; {RESAVE}")
    return rebuild(*arguments)
