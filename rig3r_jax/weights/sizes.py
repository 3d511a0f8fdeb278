"""What the shapes of a file's tensors tell about its model, by majority, and what a user has to tell beside them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from rig3r_jax.weights.engine import ConversionError
from rig3r_jax.weights.names import prefixes

HEAD_WIDTH = 64  # of all public models whose file does not tell it
_SHOWN = 5  # keys that a message lists


class Sizes:
    """Sizes by the majority of all tensors that tell them.

    A tensor that is missing, additional or misshapen is outvoted: it alone then does not fit, and all others do.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], owner: str, typical: str):
        """Looks at shapes only.

        Args:
            tensors: the weights file.
            owner: whose weights they ought to be.
            typical: regex (fullmatch) of keys that weights of this owner surely have.

        Raises:
            ConversionError: no key is typical; names keys of the file, and the prefix without which they would be.
        """
        self._shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if not any(re.fullmatch(typical, name) for name in self._shapes):
            more = ", ..." if len(self._shapes) > _SHOWN else ""
            raise ConversionError(
                f"these are no weights of {owner}: the file has {', '.join(list(self._shapes)[:_SHOWN])}{more}"
                f"{self._remedy(typical)}"
            )

    def _remedy(self, typical: str) -> str:
        outer = prefixes(self._shapes, typical)
        if len(outer) != 1:
            return ""
        return f"; those below {outer[0]!r} look like them: save them alone, without that prefix"

    def usual(self, axes: Mapping[str, int], otherwise: int) -> int:
        """The most frequent size of some tensors.

        Args:
            axes: regex (fullmatch) of keys -> the axis that has this size.
            otherwise: where there is no such tensor.
        """
        return _most_frequent(
            (
                shape[axis]
                for pattern, axis in axes.items()
                for name, shape in self._shapes.items()
                if len(shape) > axis and shape[axis] and re.fullmatch(pattern, name)
            ),
            otherwise,
        )

    def layers(self, prefix: str, otherwise: int) -> int:
        """How many layers most tensors come in: keys are the regex `prefix`, the layer's number, a dot and the rest."""
        numbered = (
            match["rest"] for name in self._shapes if (match := re.fullmatch(rf"{prefix}\d+\.(?P<rest>.+)", name))
        )
        return _most_frequent(Counter(numbered).values(), otherwise)


def _most_frequent(numbers: Iterable[int], otherwise: int) -> int:
    return next(iter(Counter(numbers).most_common(1)), (otherwise, 0))[0]


def positive_number(name: str, value: int) -> int:
    """`value` where it is above 0.

    Raises:
        ValueError: it is not.
    """
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be above 0: say {name}=number")
    return value


def head_count(name: str, stated: int | None, width: int, otherwise: int | None = None, multiple: int = 1) -> int:
    """Attention heads, which no shape tells.

    Args:
        name: of the field.
        stated: as the user says.
        width: of all heads together.
        otherwise: where nothing is stated; by default as many as are 64 wide.
        multiple: of what a head's width must be.

    Raises:
        ValueError: the heads do not divide the width.
    """
    usual = otherwise or max(width // HEAD_WIDTH, 1)
    heads = positive_number(name, usual if stated is None else stated)
    if width % (heads * multiple):
        rule = f" into heads whose width is a multiple of {multiple}" if multiple > 1 else ""
        raise ValueError(
            f"{name} is {heads}; it must divide the width {width} of these weights{rule}: say {name}=number"
        )
    return heads


def unlike_public(fields: Mapping, public: Mapping) -> list[str]:
    """`registers 5 (4)` for every field that differs from the public model's, which stands in brackets."""
    return [
        f"{name} {_text(fields[name])} ({_text(value)})"
        for name, value in public.items()
        if _text(fields[name]) != _text(value)
    ]


def _text(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
