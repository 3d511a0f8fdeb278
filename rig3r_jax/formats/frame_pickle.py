"""The columns of a table that pandas pickled, without pandas, and without ever running code that the file names.

A pickle may name any function and have it called. This reader imports nothing that a file names: tables, their blocks
and arrays have stand-ins here that only keep what they are given, and any other name is refused. Read are the tables of
pandas from 0.14 (blocks with their places) to now (`_unpickle_block`), with columns of numbers, truth values and text;
a column of another kind, such as times or Arrow's text, is left out where it is not asked for.
"""

import io
import math
import pickle
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rig3r_jax.formats.pickle_sizes import check_opcodes

_KINDS = "biufU"  # of numpy's types that are read: truth values, whole numbers, numbers, text


class _Kept:
    """Keeps what a pickle makes an object of."""

    def __new__(cls, *arguments: typing.Any, **named: typing.Any) -> "_Kept":
        kept = super().__new__(cls)
        kept.arguments, kept.state = (*arguments, *named.values()), None
        return kept

    def __setstate__(self, state: typing.Any) -> None:
        self.state = state


class _Type(_Kept):
    """numpy's dtype: its name, and its byte order in the state."""

    def numpy(self) -> np.dtype | None:
        """None of Python's objects and of what is not read."""
        name, order = self.arguments[0], self.state[1] if isinstance(self.state, tuple) else "="
        if not isinstance(name, str) or name[:1] not in _KINDS or not name[1:].isdecimal() or order not in "<>|=":
            return None
        return np.dtype(name).newbyteorder(order)


class _Array(_Kept):
    """numpy's ndarray by `_reconstruct`: shape, type and content are in the state."""

    def values(self) -> np.ndarray | None:
        """The array, of objects too; None of a type that is not read. ValueError where shape and content differ."""
        _, shape, kind, columns_first, content = self.state
        return _values(shape, kind, "F" if columns_first else "C", content)


class _Buffer(_Array):
    """numpy's ndarray by `_frombuffer`, as protocol 5 has it."""

    def values(self) -> np.ndarray | None:
        """See `_Array`."""
        content, kind, shape, order = self.arguments
        if not isinstance(content, bytes | bytearray):  # of a number bytes() would make as many
            raise ValueError("an array without content")
        return _values(shape, kind, order, content)


def _values(shape: typing.Any, kind: typing.Any, order: typing.Any, content: typing.Any) -> np.ndarray | None:
    if (
        not isinstance(kind, _Type)
        or order not in ("C", "F")
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise ValueError("an array without shape, type or order")
    if isinstance(content, list):
        array = np.empty(len(content), object)
        array[:] = content
    elif (dtype := kind.numpy()) is None:
        return None
    elif math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
    else:
        array = np.frombuffer(content, dtype)
    return array.reshape(shape, order=order)


class _Frame(_Kept):
    """A pandas.DataFrame."""


class _Manager(_Kept):
    """Its blocks and axes."""


class _Block(_Kept):
    """Values of columns and which ones."""


class _Index(_Kept):
    """Names of columns or rows."""


class _Other(_Kept):
    """What columns of other kinds are made of: kept and never looked at."""


class _Encoded(_Kept):
    """Bytes that old protocols write as text."""

    def __new__(cls, text: typing.Any, encoding: typing.Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes in another encoding than latin-1")
        return text.encode("latin-1")


_NUMPY_CORES = ("numpy.core", "numpy._core")
_INDEXES = ("base.Index", "range.RangeIndex", "numeric.Int64Index", "multi.MultiIndex")
_STAND_INS: Mapping[str, Callable] = {
    **{f"{core}.multiarray._reconstruct": _Array for core in _NUMPY_CORES},
    **{f"{core}.numeric._frombuffer": _Buffer for core in _NUMPY_CORES},
    **{f"{core}.multiarray.scalar": _Other for core in _NUMPY_CORES},
    "numpy.dtype": _Type,
    "numpy.ndarray": _Other,
    "pandas.DataFrame": _Frame,
    "pandas.core.frame.DataFrame": _Frame,
    "pandas.core.internals.BlockManager": _Manager,
    "pandas.core.internals.managers.BlockManager": _Manager,
    "pandas._libs.internals._unpickle_block": _Block,
    "pandas.core.internals.blocks.new_block": _Block,
    "pandas.core.indexes.base._new_Index": _Index,
    "pandas.indexes.base._new_Index": _Index,
    "pandas.Index": _Other,
    "pandas.RangeIndex": _Other,
    **{f"pandas.core.indexes.{name}": _Other for name in _INDEXES},
    **{f"pandas.indexes.{name}": _Other for name in _INDEXES},
    "builtins.slice": slice,
    "__builtin__.slice": slice,
    "builtins.bytearray": _Other,
    "__builtin__.bytearray": _Other,
    "_codecs.encode": _Encoded,
}
_UNREAD = ("pandas.arrays.", "pandas.core.arrays.", "pandas.core.dtypes.", "pandas.StringDtype", "pyarrow.lib.")


class Refused(ValueError):
    """The pickle names what is not handed out."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        """The stand-in of a name; Refused where there is none. Nothing is imported."""
        full = f"{module}.{name}"
        if full in _STAND_INS:
            return _STAND_INS[full]
        if full.startswith(_UNREAD):
            return _Other
        raise Refused(f"asks for {full}, which no table of pandas does; nothing was run")

    def persistent_load(self, pid: object) -> typing.NoReturn:
        """There are none in a table."""
        raise Refused("refers to objects outside of itself; nothing was run")


def read_data_frame(data: bytes, where: str | Path) -> dict[str, np.ndarray]:
    """{column: values (n,)} of a pickled DataFrame, without the columns of kinds that are not read.

    Text and mixed values are arrays of objects. ValueError, naming `where`, for what is no such pickle.
    """
    remedy = "fetch the file anew from its authors"
    try:
        check_opcodes(data)
        frame = _Unpickler(io.BytesIO(data)).load()
        if not isinstance(frame, _Frame):
            raise ValueError("it holds no DataFrame")
        return _columns(frame)
    except Refused as error:
        raise ValueError(f"{where}: {error}; {remedy}") from error
    except Exception as error:  # whatever damaged bytes make of the machine that reads them
        raise ValueError(f"{where}: is no table that pandas pickled ({error!r}); {remedy}") from error


def _columns(frame: _Frame) -> dict[str, np.ndarray]:
    manager = frame.state["_mgr"] if "_mgr" in frame.state else frame.state["_data"]
    axes, blocks = _axes_and_blocks(manager)
    names = _names(axes[0])
    columns: dict[str, np.ndarray] = {}
    for values, places in blocks:
        if not isinstance(values, _Array) or (array := values.values()) is None:
            continue
        numbers = range(len(names))[places] if isinstance(places, slice) else places.values().tolist()
        if array.ndim != 2 or len(array) != len(numbers):
            raise ValueError(f"a block of shape {array.shape} for {len(numbers)} columns")
        columns |= {names[number]: row for number, row in zip(numbers, array, strict=True)}
    return columns


def _axes_and_blocks(manager: _Manager) -> tuple[list, list[tuple]]:
    if manager.state is None:  # since pandas 1.3: BlockManager(blocks, axes)
        blocks, axes = manager.arguments
        return axes, [(block.arguments[0], block.arguments[1]) for block in blocks]
    described = manager.state[-1]["0.14.1"]
    return described["axes"], [(block["values"], block["mgr_locs"]) for block in described["blocks"]]


def _names(index: _Index) -> list[str]:
    """Of the columns, as text."""
    described = index.arguments[1]
    if "data" in described and isinstance(described["data"], _Array):
        return [str(name) for name in described["data"].values().tolist()]
    raise ValueError("its columns have no names that are read")
