"""Weights between PyTorch's and Flax's names and layouts, by a table: one entry per source tensor, one error report.

A table is total: every source key of real numbers has exactly one entry or one regex that leaves it out by name, and
every leaf of the model is filled. Whatever does not fit is told in one message.
"""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

_SHOWN = 50  # problems of one sort that a message lists
_RGB = 3  # channels of every patch: the rows of a Dense over patches do not tell them


class ConversionError(ValueError):
    """Tensors and model do not fit together; the message names everything that does not."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one tensor lies in PyTorch and in Flax; both directions are permutations, so that a round trip is exact."""

    name: str
    to_flax: Callable[[np.ndarray], np.ndarray] = dataclasses.field(compare=False)
    to_torch: Callable[[np.ndarray], np.ndarray] = dataclasses.field(compare=False)


def _patches_from_kernel(kernel: np.ndarray) -> np.ndarray:
    """(O, c, p, p) to (p*p*c, O): the rows follow `models.vit.patchify`, row-major (p, p, c)."""
    return kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])


def _kernel_from_patches(kernel: np.ndarray) -> np.ndarray:
    side = math.isqrt(kernel.shape[0] // _RGB)
    assert kernel.shape[0] == side * side * _RGB, f"{kernel.shape[0]} rows are no square patch of {_RGB} channels"
    return kernel.reshape(side, side, _RGB, -1).transpose(3, 2, 0, 1)


def squeezed(leading_ones: int) -> Layout:
    """A tensor that PyTorch stores with `leading_ones` leading axes of size 1."""
    ones = (1,) * leading_ones

    def to_flax(tensor: np.ndarray) -> np.ndarray:
        return tensor.reshape(tensor.shape[leading_ones:]) if tensor.shape[:leading_ones] == ones else tensor

    return Layout(f"squeezed{leading_ones}", to_flax, lambda leaf: leaf.reshape(*ones, *leaf.shape))


SAME = Layout("same", lambda x: x, lambda x: x)
LINEAR = Layout("linear", lambda x: x.T, lambda x: x.T)  # (out, in) and (in, out)
CONV = Layout("conv", lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # OIHW and HWIO
# IOHW and HWIO, turned by 180 degrees: torch scatters the kernel, lax.conv_transpose correlates the dilated input.
CONV_TRANSPOSE = Layout(
    "conv_transpose",
    lambda x: x.transpose(2, 3, 0, 1)[::-1, ::-1],
    lambda x: x[::-1, ::-1].transpose(2, 3, 0, 1),
)
PATCH = Layout("patch", _patches_from_kernel, _kernel_from_patches)  # RGB patches: Conv2d and Dense over `patchify`


@dataclasses.dataclass(frozen=True)
class Entry:
    """One source tensor and where it goes."""

    source: str  # PyTorch key
    target: str  # Flax path, `encoder/blocks/block/attn/qkv/kernel`
    layout: Layout = SAME
    index: int | None = None  # place along axis 0 of a leaf that a scan stacked


@dataclasses.dataclass(frozen=True)
class Table:
    """A total mapping; build the entries with `linear`, `norm`, `conv` and `block_entries`."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()  # regexes (fullmatch) of source keys that are left out by name

    def ignores(self, source: str) -> bool:
        """Whether a source key is left out by name."""
        return any(re.fullmatch(pattern, source) for pattern in self.ignored)


def linear(source: str, target: str, index: int | None = None, *, bias: bool = True) -> list[Entry]:
    """nn.Linear and nn.Dense."""
    return _weighted(source, target, "kernel", LINEAR, index, bias)


def norm(source: str, target: str, index: int | None = None) -> list[Entry]:
    """LayerNorm."""
    return _weighted(source, target, "scale", SAME, index, True)


def conv(
    source: str, target: str, index: int | None = None, *, bias: bool = True, layout: Layout = CONV
) -> list[Entry]:
    """Conv2d and nn.Conv; `layout` CONV_TRANSPOSE for their transposed kind, PATCH for a Dense over patches."""
    return _weighted(source, target, "kernel", layout, index, bias)


def _weighted(source: str, target: str, leaf: str, layout: Layout, index: int | None, bias: bool) -> list[Entry]:
    entries = [Entry(f"{source}.weight", f"{target}/{leaf}", layout, index)]
    return entries + ([Entry(f"{source}.bias", f"{target}/bias", SAME, index)] if bias else [])


def block_entries(
    source_prefix: str, target_prefix: str, index: int | None, *, qk_norm: bool = False, layer_scale: bool = False
) -> list[Entry]:
    """One transformer block by the names of timm, CroCo and DINOv2, and `models.layers.Block`.

    Args:
        source_prefix: `enc_blocks.3`.
        target_prefix: `encoder/blocks/block`.
        index: the block's place in a scanned stack; None for a block of its own.
        qk_norm: the block normalises queries and keys.
        layer_scale: the block scales its branches, `ls1.gamma` and `ls2.gamma`.
    """
    entries = []
    for name in ("norm1", "norm2", *(("attn.q_norm", "attn.k_norm") if qk_norm else ())):
        entries += norm(f"{source_prefix}.{name}", f"{target_prefix}/{name.replace('.', '/')}", index)
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        entries += linear(f"{source_prefix}.{name}", f"{target_prefix}/{name.replace('.', '/')}", index)
    for name in ("ls1", "ls2") if layer_scale else ():
        entries.append(Entry(f"{source_prefix}.{name}.gamma", f"{target_prefix}/{name}/gamma", SAME, index))
    return entries


def flatten(tree: Mapping) -> dict[str, object]:
    """A nested tree, or one that is flat already, as {"a/b/c": leaf}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{rest}": leaf for rest, leaf in flatten(value).items()})
        else:
            flat[str(key)] = value
    return flat


def nest(flat: Mapping[str, object]) -> dict:
    """Inverse of `flatten`."""
    tree = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def stacked_depth(keys: Sequence[str] | Mapping, prefix: str) -> int:
    """Number of blocks below `prefix`: one more than the largest i of the keys `<prefix>.<i>.`; 0 without any."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return max((int(match[1]) + 1 for key in keys if (match := pattern.match(key))), default=0)


def convert(tensors: Mapping[str, np.ndarray], table: Table, expected: Mapping) -> dict:
    """The tensors as a nested tree of numpy parameters; every leaf is allocated once and filled in place.

    Args:
        tensors: PyTorch names to arrays, which may be memory-mapped and of any floating-point type.
        table: the mapping.
        expected: shapes and dtypes of the parameters: a nested tree, or {"a/b/c": ShapeDtypeStruct}.

    Raises:
        ConversionError: names every unknown key, every missing key, every leaf that stays unfilled and every tensor
            whose shape is not that of its place or that holds NaN or infinities.
    """
    expected = flatten(expected)
    _check_table(table)
    _check(tensors, table, expected)
    flat, broken = {}, []
    for entry in table.entries:
        if entry.target not in flat:
            leaf = expected[entry.target]
            flat[entry.target] = np.empty(leaf.shape, leaf.dtype)
        slot = flat[entry.target] if entry.index is None else flat[entry.target][entry.index]
        slot[...] = entry.layout.to_flax(tensors[entry.source])
        if not np.isfinite(slot).all():
            broken.append(entry.source)
    _raise({"tensors with NaN or infinite numbers": broken})
    return nest(flat)


def export(params: Mapping, table: Table) -> dict[str, np.ndarray]:
    """The inverse of `convert`, bit for bit: PyTorch names to views of the parameters.

    Raises:
        ConversionError: names the parameters that the table does not know and those that it wants and lacks.
    """
    _check_table(table)
    flat = flatten(params)
    targets = {entry.target for entry in table.entries}
    problems = {
        "parameters that have no name in PyTorch": sorted(flat.keys() - targets),
        "parameters that are missing": sorted(targets - flat.keys()),
    }
    _raise(problems)
    arrays = {path: np.asarray(leaf) for path, leaf in flat.items()}
    return {
        entry.source: entry.layout.to_torch(
            arrays[entry.target] if entry.index is None else arrays[entry.target][entry.index]
        )
        for entry in table.entries
        if entry.target in arrays
    }


def shapes(params: Mapping) -> dict[str, jax.ShapeDtypeStruct]:
    """{"a/b/c": shape and dtype} of a tree of arrays or of ShapeDtypeStructs."""
    return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flatten(params).items()}


def typed(params: Mapping, dtype: DTypeLike) -> dict:
    """The shapes of a tree, in a type."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def _check_table(table: Table) -> None:
    """A source has one place and a place has one source; what is kept is not left out."""
    sources = Counter(entry.source for entry in table.entries)
    places = Counter((entry.target, entry.index) for entry in table.entries)
    twice = [key for key, count in (sources + places).items() if count > 1]
    assert not twice, f"the table names {twice} more than once"
    both = [key for key in sources if table.ignores(key)]
    assert not both, f"the table keeps and ignores {both}"


def _check(tensors: Mapping[str, np.ndarray], table: Table, expected: Mapping) -> None:
    """Raises when anything does not fit."""
    sources = {entry.source for entry in table.entries}
    by_target = defaultdict(list)
    for entry in table.entries:
        by_target[entry.target].append(entry)
    problems = {
        # Whole and complex numbers are buffers, such as a counter of batches or the phases of an embedding.
        "unknown keys": [
            key
            for key, tensor in tensors.items()
            if key not in sources and not table.ignores(key) and jnp.issubdtype(tensor.dtype, jnp.floating)
        ],
        "missing keys": [entry.source for entry in table.entries if entry.source not in tensors],
        "parameters that nothing fills": [path for path in expected if path not in by_target],
        "parameters that the model does not have": [path for path in by_target if path not in expected],
        "misshapen tensors": [],
    }
    for target, entries in by_target.items():
        if target in expected:
            problems["misshapen tensors"] += _shape_problems(tensors, target, entries, expected[target])
            stacked = {entry.index for entry in entries} - {None}
            unfilled = sorted(set(range(expected[target].shape[0])) - stacked) if stacked else []
            problems["parameters that nothing fills"] += [f"{target}[{index}]" for index in unfilled]
    _raise(problems)


def _shape_problems(
    tensors: Mapping[str, np.ndarray], target: str, entries: list[Entry], leaf: jax.ShapeDtypeStruct
) -> Iterator[str]:
    """One line for every tensor that is not what its place wants."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    for entry in entries:
        if entry.source not in tensors:
            continue
        tensor = tensors[entry.source]
        if entry.index is not None and (not leaf.shape or entry.index >= leaf.shape[0]):
            yield f"{entry.source}: is number {entry.index} of {target}, which has shape {tuple(leaf.shape)}"
            continue
        shape = tuple(leaf.shape if entry.index is None else leaf.shape[1:])
        expected = _torch_shape(entry.layout, shape)
        if tuple(tensor.shape) != expected:
            yield f"{entry.source}: has shape {tuple(tensor.shape)}, {target} wants {expected}"
        elif floating and not jnp.issubdtype(tensor.dtype, jnp.floating):
            yield f"{entry.source}: holds {tensor.dtype}, {target} wants floating-point numbers"


def _torch_shape(layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the layout makes of a leaf's shape, by an array without memory."""
    return tuple(layout.to_torch(np.broadcast_to(np.float32(0), shape)).shape)


def _raise(problems: Mapping[str, list[str]]) -> None:
    problems = {title: sorted(lines) for title, lines in problems.items() if lines}
    if not problems:
        return
    text = []
    for title, lines in problems.items():
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        text += [f"{len(lines)} {title}:", *(f"  {line}" for line in lines[:_SHOWN] + more)]
    raise ConversionError(
        "the tensors do not fit the model; is this the right kind of file and the right size of model?\n"
        + "\n".join(text)
    )
