"""What a GPU's program runs in a step: its kernels by kind and part of the model, and what hides its collectives."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

from rig3r_jax.benchmarks.hlo import KINDS, Instruction, Operations, Program, arrays
from rig3r_jax.benchmarks.hlo_groups import replica_groups
from rig3r_jax.models.tokamax_attention import BACKWARD

# Kinds of custom calls by their target and JAX's name of the operation; the first that fits.
_CALLS = (
    (rf"fmhaSoftmaxBackward|flash\d_mha_bwd|^mosaic_gpu.*/{BACKWARD}/", "attention backward"),
    (r"fmhaSoftmax|flash\d_mha_fwd|^mosaic_gpu.*/flash_attention", "attention forward"),
    (r"cublas.*\$f8", "FP8 products"),
    (r"cublas", "products"),
    (r"cudnn\$conv", "convolutions"),
)
PRODUCTS = ("products", "FP8 products")
# Parts of the model by JAX's name of an operation; the first that fits.
_PARTS = (
    (r"/(encoder|decoder|point_head|rig_embedding)\b", None),
    (r"/(pose|rig)_head\b", "ray heads"),
    (r"train_step\)/cond\b", "optimizer"),
)
# What costs nothing on the device: names of arrays, and ends of what has been counted at its start.
_FREE = frozenset("parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id".split())


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction that a device runs as a kernel (or hands to a library), and how often in a step."""

    kind: str
    part: str
    backward: bool
    times: int
    bytes: int  # that one run reads and writes


@dataclasses.dataclass(frozen=True)
class Sending:
    """A collective, and what the device computes between its start and its end."""

    kind: str
    part: str
    backward: bool
    dtype: str
    bytes: int  # of the whole array: gathered, or not yet scattered
    groups: tuple[tuple[int, ...], ...]  # devices that send to one another
    times: int
    asynchronous: bool
    beside: tuple[tuple[str, int], ...]  # kinds of kernels and how many run meanwhile
    operations: Operations  # of those kernels


def kernels(program: Program) -> list[Kernel]:
    """All kernels of a run of the program; of a branch, both sides."""
    return [
        Kernel(
            kind_of(program, instruction),
            part_of(instruction),
            _is_backward(instruction),
            times,
            moved_bytes(program, body, instruction),
        )
        for body, instruction, times in _runs(program, program.entry, 1)
        if _is_kernel(instruction)
    ]


def sendings(program: Program, devices: int) -> list[Sending]:
    """All collectives of a run of the program for so many devices, in its order; as the schedule has them."""
    collectives = []
    for body, instruction, times in _runs(program, program.entry, 1):
        if not _is_collective(instruction):
            continue
        asynchronous = instruction.opcode.endswith("-start")
        meanwhile = list(_between(program, body, instruction)) if asynchronous else []
        beside: collections.Counter = collections.Counter()
        operations = Operations()
        for where, kernel, runs in meanwhile:
            beside[kind_of(program, kernel)] += runs
            operations += operations_of(program, where, kernel) * runs
        sent = sum(body[name].bytes for name in instruction.operands)
        kind, groups = instruction.opcode.removesuffix("-start"), replica_groups(instruction.attributes, devices)
        collectives.append(
            Sending(
                kind=kind,
                part=part_of(instruction),
                backward=_is_backward(instruction),
                dtype=arrays(instruction.shape)[0][0],
                bytes=sent * len(groups[0]) if kind == "all-gather" else sent,
                groups=groups,
                times=times,
                asynchronous=asynchronous,
                beside=tuple(sorted(beside.items())),
                operations=operations,
            )
        )
    return collectives


def named(program: Program, operation: str) -> int:
    """How many instructions, wherever they stand, come from JAX's operation of this name."""
    pattern = re.compile(rf'op_name="[^"]*/{operation}"')
    return sum(
        bool(pattern.search(instruction.attributes))
        for body in program.computations.values()
        for instruction in body.values()
    )


def part_of(instruction: Instruction) -> str:
    """The part of the model that an instruction belongs to, by JAX's name of its operation."""
    name = instruction.attribute(r'op_name="([^"]*)"') or ""
    for pattern, part in _PARTS:
        if match := re.search(pattern, name):
            return part or match.group(1).replace("_", " ")
    return "rest"


def _is_backward(instruction: Instruction) -> bool:
    return "transpose(" in (instruction.attribute(r'op_name="([^"]*)"') or "")


def _runs(program: Program, computation: str, times: int) -> Iterator[tuple[dict[str, Instruction], Instruction, int]]:
    """Every instruction that is run, with its computation; what a fusion holds is one kernel, not opened."""
    body = program.computations[computation]
    for instruction in body.values():
        yield body, instruction, times
        if instruction.opcode not in ("fusion", "fusion-start"):
            for name, turns in program.called(instruction):
                yield from _runs(program, name, times * turns)


def _is_collective(instruction: Instruction) -> bool:
    return instruction.opcode.removesuffix("-start") in KINDS


def _is_kernel(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    control = opcode in ("while", "conditional", "call", "async-start", "async-update")
    return not (opcode in _FREE or control or opcode.endswith("-done") or _is_collective(instruction))


def kind_of(program: Program, instruction: Instruction) -> str:
    """The kind of kernel that an instruction is."""
    if instruction.opcode == "custom-call":
        target, name = (instruction.attribute(f'{word}="([^"]*)"') or "" for word in ("custom_call_target", "op_name"))
        called = f"{target} {name}"
        return next((kind for pattern, kind in _CALLS if re.search(pattern, called)), f"call of {target}")
    if instruction.opcode.removesuffix("-start") == "fusion":
        opcodes = {inner.opcode for inner in _fused(program, instruction).values()}
        return "scatters" if "scatter" in opcodes else "products" if "dot" in opcodes else "fusions"
    opcode = instruction.opcode.removesuffix("-start")
    return {"copy": "copies", "scatter": "scatters"}.get(opcode, "fusions")


def _fused(program: Program, instruction: Instruction) -> dict[str, Instruction]:
    return program.computations[instruction.attribute(r"calls=%?([\w.\-]+)")]


def _between(
    program: Program, body: dict[str, Instruction], start: Instruction
) -> Iterator[tuple[dict[str, Instruction], Instruction, int]]:
    """The kernels that stand between a start and its end in the schedule, with their computation and how often each
    runs; a loop counts as what it runs."""
    inside = False
    for instruction in body.values():
        if instruction.opcode.endswith("-done") and start.name in instruction.operands:
            return
        if inside and _is_kernel(instruction):
            yield body, instruction, 1
        elif inside and instruction.opcode in ("while", "call"):
            for name, turns in program.called(instruction):
                yield from (run for run in _runs(program, name, turns) if _is_kernel(run[1]))
        inside |= instruction.name == start.name


def operations_of(program: Program, body: dict[str, Instruction], instruction: Instruction) -> Operations:
    """Of the products and the attention that libraries do; 0 of other kernels, which do little or are of no account."""
    kind = kind_of(program, instruction)
    if instruction.opcode != "custom-call" or kind not in (*PRODUCTS, "attention forward", "attention backward"):
        return Operations()
    operand_shapes = [arrays(body[name].shape)[0][1] for name in instruction.operands if name in body]
    if kind in PRODUCTS:
        contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
        axes = [int(axis) for axis in re.findall(r"\d+", contracted.group(1))] if contracted else [-1]
        out = arrays(instruction.shape)[0][1]
        return Operations(linear=2.0 * math.prod(out) * math.prod(operand_shapes[0][axis] for axis in axes))
    rank = max(map(len, operand_shapes))  # 4: (batch, tokens, heads, width); 3: without the batch
    (*batch, queries, heads, width), (*_, keys, _, _) = [dims for dims in operand_shapes if len(dims) == rank][:2]
    forward = 4.0 * math.prod(batch) * heads * queries * keys * width
    backward = 2.5 / (2 if "mosaic_gpu" in instruction.attributes else 1) * forward  # tokamax's is two kernels
    return Operations(attention=forward if kind == "attention forward" else backward)


def moved_bytes(program: Program, body: dict[str, Instruction], instruction: Instruction) -> int:
    """Bytes that one run of an instruction reads and writes: of a stack of which a fusion takes or fills one slice,
    that slice."""
    operands = [body[name].bytes if name in body else 0 for name in instruction.operands]
    if instruction.opcode.removesuffix("-start") != "fusion":
        return (instruction.bytes // 2 if instruction.opcode == "copy-start" else instruction.bytes) + sum(operands)
    inner = _fused(program, instruction)
    parameters = {int(p.operands[0]): p for p in inner.values() if p.opcode == "parameter"}
    filled = {_origin(inner, p.operands[0]) for p in inner.values() if p.opcode == "dynamic-update-slice"}
    read = 0
    for number, size in enumerate(operands):
        users = [user for user in inner.values() if number in parameters and parameters[number].name in user.operands]
        if number in parameters and parameters[number].name in filled:
            continue
        sliced = users and all(user.opcode in ("dynamic-slice", "slice") for user in users)
        read += min(size, sum(user.bytes for user in users)) if sliced else size
    return read + _written(inner)


def _written(inner: dict[str, Instruction]) -> int:
    """Bytes that a fusion writes: its results, of a stack in which it fills a slice that slice."""
    root = next(instruction for instruction in inner.values() if instruction.is_root)
    results = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    return sum(
        inner[result.operands[1]].bytes if result.opcode == "dynamic-update-slice" else result.bytes
        for result in results
    )


def _origin(inner: dict[str, Instruction], name: str) -> str:
    """The parameter behind a chain of renamings."""
    while inner[name].opcode in ("bitcast", "copy", "reshape") and inner[name].operands:
        name = inner[name].operands[0]
    return name
