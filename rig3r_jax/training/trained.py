"""Which parameters a run trains, by their names: the others keep their bits, and cost no gradient and no moments."""

import fnmatch
from collections.abc import Iterator, Sequence

from jaxtyping import PyTree

from rig3r_jax.weights.engine import flatten, nest


def split(params: PyTree, frozen: Sequence[str]) -> tuple[PyTree, PyTree]:
    """(trained, frozen) parameters, each a tree without the leaves of the other.

    `frozen` are shell patterns of whole names, whose * takes slashes too: `encoder/*` is all below `encoder`.
    """
    if not frozen:
        return params, {}
    parts: tuple[dict, dict] = ({}, {})
    for name, leaf in flatten(params).items():
        parts[_matches(name, frozen)][name] = leaf
    return nest(parts[False]), nest(parts[True])


def join(trained: PyTree, frozen: PyTree) -> PyTree:
    """Inverse of `split`."""
    return nest(flatten(trained) | flatten(frozen)) if frozen else trained


def frozen_problems(params: PyTree, frozen: Sequence[str]) -> Iterator[str]:
    """What is wrong with optimizer.frozen for these parameters, or their shapes."""
    names = list(flatten(params))
    rooms = ", ".join(dict.fromkeys(f"{name.split('/')[0]}/*" for name in names))
    for pattern in frozen:
        if not any(_matches(name, [pattern]) for name in names):
            yield f"optimizer.frozen has {pattern!r}, which is no parameter's name; take some of {rooms}, or of below"
    if names and all(_matches(name, frozen) for name in names):
        yield f"optimizer.frozen is {frozen!r}: nothing is left to train; take fewer"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
