"""Which devices run a collective together, in any of the ways that XLA writes it."""

import math
import re

import numpy as np


def replica_groups(attributes: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """The groups of devices of a collective, in any of the ways that XLA writes them.

    Raises:
        ValueError: for another way.
    """
    if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", attributes):
        return tuple(tuple(map(int, pair.split(","))) for pair in re.findall(r"\{([\d,]+)\}", pairs.group(1)))
    if re.search(r"replica_groups=\{\}", attributes) or "replica_groups=" not in attributes:
        return (tuple(range(devices)),)
    if lists := re.search(r"replica_groups=\{(\{.*?\})\}", attributes):
        return tuple(tuple(map(int, group.split(","))) for group in re.findall(r"\{([\d,]+)\}", lists.group(1)))
    if iota := re.search(r"replica_groups=\[([\d,]+)\](<=\S*?\](?:T\([\d,]+\))?)", attributes):
        shape = _numbers(iota.group(1))
        return _rows(_iota(iota.group(2)).reshape(shape), shape[-1])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?\))\))? \{(.*?)\}", attributes):
        return _mesh_groups(*mesh.groups())
    raise ValueError(f"replica groups in an unknown form: {attributes[:200]}")


def _mesh_groups(mesh: str, order: str | None, chosen: str) -> tuple[tuple[int, ...], ...]:
    """Groups along some axes of a mesh `'a'=2,'b'=4`; a part `'b':(2)2` is the inner half of an axis of 4."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    total = math.prod(sizes.values())
    ids = np.arange(total) if order is None else _iota("<=" + order).reshape(-1)
    shape, in_group = [], []  # axes, cut in (before, part, after) where only a part is chosen
    parts = {name: (int(pre), int(size)) for name, pre, size in re.findall(r"'([^']+)':\((\d+)\)(\d+)", chosen)}
    whole = set(re.findall(r"'([^']+)'", chosen)) - set(parts)
    for name, size in sizes.items():
        before, part = parts.get(name, (1, size))
        shape += [before, part, size // before // part]
        in_group += [False, name in whole or name in parts, False]
    axes = np.argsort(in_group, kind="stable")
    members = math.prod(size for size, inside in zip(shape, in_group, strict=True) if inside)
    return _rows(ids.reshape(shape).transpose(axes), members)


def _iota(text: str) -> np.ndarray:
    """`<=[2,4]T(1,0)` (or without the arrow): 0, 1, ... of that shape, its axes permuted."""
    shape, permutation = re.search(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return ids.transpose(_numbers(permutation)) if permutation else ids


def _rows(ids: np.ndarray, size: int) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, ids.reshape(-1, size).tolist()))


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]
