"""Names of tensors without what wrapping classes put into them, and the part of a file that is of one owner."""

import re
import typing
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from rig3r_jax.weights.engine import ConversionError

# What torch.compile, FSDP, activation checkpointing and Lightning put between the parts of a name, and DDP inside one.
_MARKS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.|(?<=\.)module\."
)
_WRAPPERS = ("module.", "model.", "backbone.")  # what classes that hold a whole network put in front of its names
_AVERAGES = re.compile(r"(^|[._])(teacher|ema)([._]|$)")  # of the networks in a file the one to use


class Part(typing.NamedTuple):
    """The tensors of a file below one prefix, without it."""

    tensors: dict[str, np.ndarray]
    prefix: str  # "" for the whole file
    others: list[str]  # names of the file that are not below it


def unwrapped(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without the marks of wrappers in their names, nor a wrapper's prefix that all names have."""
    plain = {_MARKS.sub("", name): tensor for name, tensor in tensors.items()}
    return _without_prefixes(plain if len(plain) == len(tensors) else dict(tensors))


def _without_prefixes(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


def prefixes(names: Iterable[str], typical: str) -> list[str]:
    """What stands in front of names that would match the regex `typical` without it, each once; dots end them."""
    inner = (re.fullmatch(rf"(?P<prefix>.*\.)(?:{typical})", name) for name in names)
    return list(Counter(match["prefix"] for match in inner if match))


def part_of(tensors: Mapping[str, np.ndarray], typical: str) -> Part:
    """The part of a file whose names match the regex `typical`: all of it, or what lies below a prefix.

    Of several such prefixes the one of a teacher or moving average is taken, which is what one evaluates.

    Raises:
        ConversionError: there are several and none, or more than one, is of that kind.
    """
    whole = Part(dict(tensors), "", [])
    if any(re.fullmatch(typical, name) for name in tensors):
        return whole
    candidates = prefixes(tensors, typical)
    if len(candidates) > 1:
        averages = [prefix for prefix in candidates if _AVERAGES.search(prefix)]
        if len(averages) != 1:
            raise ConversionError(
                f"several parts of the file look like such weights: those below {', '.join(map(repr, candidates))}; "
                "save the one that you want alone"
            )
        candidates = averages
    if not candidates:
        return whole
    (prefix,) = candidates
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return Part(inside, prefix, [name for name in tensors if not name.startswith(prefix)])
