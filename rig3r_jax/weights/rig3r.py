"""Rig3R's parameters under the names of its plain PyTorch twin, derived from the parameter tree itself."""

from collections.abc import Iterator, Mapping

from rig3r_jax.weights.engine import CONV, CONV_TRANSPOSE, LINEAR, SAME, Entry, Layout, Table, flatten

_STACK = "block"  # what a scan over layers calls the one block whose parameters it stacks
_UPSAMPLING = ("level1_resize", "level2_resize")  # of the DPT head: transposed convolutions


def table(params: Mapping) -> Table:
    """The mapping of a tree of parameters (arrays or ShapeDtypeStructs); a stack over layers becomes numbered blocks.

    `encoder/blocks/block/attn/qkv/kernel` is `encoder.blocks.{i}.attn.qkv.weight`, `rig_embedding/camera_id_null` is
    `rig_embedding.camera_id_null`.
    """
    return Table(tuple(entry for path, leaf in flatten(params).items() for entry in _entries(path, leaf)))


def _entries(path: str, leaf) -> Iterator[Entry]:
    parts = path.split("/")
    stacked = _STACK in parts
    names = [*parts[:-1], "weight" if parts[-1] in ("kernel", "scale") else parts[-1]]
    layout = _layout(parts, len(leaf.shape) - stacked)
    if not stacked:
        yield Entry(".".join(names), path, layout)
        return
    for index in range(leaf.shape[0]):
        yield Entry(".".join(str(index) if name == _STACK else name for name in names), path, layout, index)


def _layout(parts: list[str], rank: int) -> Layout:
    if parts[-1] != "kernel":
        return SAME
    if rank == 2:
        return LINEAR
    return CONV_TRANSPOSE if parts[-2] in _UPSAMPLING else CONV
