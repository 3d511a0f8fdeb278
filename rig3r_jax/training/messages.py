"""What processes of a run tell each other, as bytes that hold values and name no code: JSON, and arrays behind it.

Values are None, truth values, numbers, text, lists, tuples, dictionaries, numpy's numbers and arrays of numbers, and
dataclasses and named tuples of the kinds that the reader names. Numbers come back bit for bit.
"""

import dataclasses
import json
import typing
from collections.abc import Sequence

import numpy as np

_HEADER_BYTES = 8  # the length of the JSON, little-endian
_ALONE = (type(None), bool, int, float, str)


def encode(value: typing.Any) -> bytes:
    """The message of a value; TypeError for what is none of the kinds above."""
    arrays: list[bytes] = []
    tree = json.dumps(_node(value, arrays)).encode()
    return len(tree).to_bytes(_HEADER_BYTES, "little") + tree + b"".join(arrays)


def decode(message: bytes, kinds: Sequence[type] = ()) -> typing.Any:
    """The value of a message of `encode`; ValueError for any other bytes, and for objects of none of these kinds."""
    start = _HEADER_BYTES + int.from_bytes(message[:_HEADER_BYTES], "little")
    try:
        tree = json.loads(message[_HEADER_BYTES:start])
        return _Decoder(message, start, {kind.__name__: kind for kind in kinds}).value(tree)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"a message of {len(message)} bytes is of no process of this run ({error})") from error


def _node(value: typing.Any, arrays: list[bytes]) -> typing.Any:
    """A value as JSON holds it: what has parts is an object of one key, which tells its kind."""
    if type(value) in _ALONE:
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"an array of {array.dtype}, must be of numbers")
        arrays.append(array.tobytes())
        return {"scalar" if isinstance(value, np.generic) else "array": [array.dtype.str, array.shape]}
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        names = getattr(value, "_fields", None) or [field.name for field in dataclasses.fields(value)]
        fields = [[name, _node(getattr(value, name), arrays)] for name in names]
        return {"object": [type(value).__name__, fields]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_node(item, arrays) for item in value]}
    if type(value) is dict:
        return {"dict": [[_node(key, arrays), _node(item, arrays)] for key, item in value.items()]}
    raise TypeError(f"{type(value).__name__} {value!r} cannot be told to other processes")


class _Decoder:
    """Reads the nodes in the order in which they were written, hence the arrays one after the other."""

    def __init__(self, message: bytes, start: int, kinds: dict[str, type]) -> None:
        self._message, self._at, self._kinds = message, start, kinds

    def value(self, node: typing.Any) -> typing.Any:
        """Inverse of `_node`."""
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind in ("array", "scalar"):
            array = self._array(*content)
            return array if kind == "array" else array[()]
        if kind == "object":
            return self._kinds[content[0]](**{name: self.value(item) for name, item in content[1]})
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in content}
        return {"list": list, "tuple": tuple}[kind](self.value(item) for item in content)

    def _array(self, kind: str, shape: list[int]) -> np.ndarray:
        dtype = np.dtype(kind)
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {dtype}")
        array = np.frombuffer(self._message, dtype, int(np.prod(shape, dtype=np.int64)), self._at).reshape(shape)
        self._at += array.nbytes
        return array.copy()
