"""A compiled program read from its text: how often each collective runs, between whom, and what it can hide behind."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from rig3r_jax.benchmarks.hlo_groups import replica_groups

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

# Operations that only move or convert what they are given.
_MOVES = frozenset("get-tuple-element bitcast reshape convert copy transpose slice dynamic-slice tuple".split())
# How results of an iteration leave it: stacked or summed, perhaps by way of another collective.
_LEAVES = _MOVES | {"dynamic-update-slice", "add", *KINDS}

_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @functools.cached_property
    def bytes(self) -> int:
        """Of all arrays of the result."""
        return sum(bits_of(kind) * math.prod(dims) for kind, dims in arrays(self.shape)) // 8

    def attribute(self, pattern: str) -> str | None:
        """The first group of a regex over the attributes."""
        match = re.search(pattern, self.attributes)
        return match.group(1) if match else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of one computation.

    `role` says what it can run beside, inside a loop: "early" reads slices of what the loop was given, so that it can
    run an iteration ahead (weights); "late" leaves the iteration stacked or summed, so that it can run an iteration
    after (gradients); "awaited" is neither. Outside of loops all are awaited.

    An all-reduce of which a device wants its slice only is a reduce-scatter, as XLA makes of it on GPU.
    """

    kind: str
    dtype: str
    bytes: int  # of the whole array: gathered, or not yet scattered
    groups: tuple[tuple[int, ...], ...]
    trips: int  # of the innermost loop around it; 1: none
    outer: int  # how often that loop runs in a step
    role: str
    where: str  # name of its computation
    source: str  # what JAX calls it

    @property
    def times(self) -> int:
        """Runs per step."""
        return self.trips * self.outer

    @property
    def wire_bytes(self) -> float:
        """Bytes that a device sends in one run, by a ring."""
        return ring_factor(self.kind, len(self.groups[0])) * self.bytes


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations (2 per multiply-add) of products and convolutions."""

    linear: float = 0.0
    attention: float = 0.0  # products with batch dimensions

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.linear + other.linear, self.attention + other.attention)

    def __mul__(self, times: int | float) -> "Operations":
        return Operations(self.linear * times, self.attention * times)


class Program:
    """The computations of an HLO module, from its text."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
                current = self.computations[header.group(2)] = {}
                self.entry = header.group(2) if header.group(1) else self.entry
            elif match := _LINE.match(line):
                root, name, shape, opcode, rest = match.groups()
                inside, attributes = _split_operands(rest)
                operands = (inside,) if opcode in ("constant", "parameter") else re.findall(r"%([\w.\-]+)", inside)
                current[name] = Instruction(name, opcode, shape, tuple(operands), attributes, bool(root))
        if not self.entry:
            raise ValueError("the text has no ENTRY computation: it is no HLO module")

    def collectives(self, devices: int) -> list[Collective]:
        """All collectives that a run of the program meets, in its order."""
        return list(self._collectives(self.entry, 1, 1, devices))

    def operations(self, computation: str | None = None) -> Operations:
        """Of one run of a computation, by default of the program; loops as often as they turn."""
        total = Operations()
        for instruction in self.computations[computation or self.entry].values():
            total += self._own_operations(computation or self.entry, instruction)
            for name, times in self.called(instruction):
                total += self.operations(name) * times
        return total

    def trip_count(self, loop: Instruction) -> int:
        """How often a `while` turns.

        Raises:
            ValueError: where neither the compiler says so nor the condition compares with a constant.
        """
        if trips := loop.attribute(r'known_trip_count":\{"n":"(\d+)"'):
            return int(trips)
        condition = self.computations[loop.attribute(r"condition=%?([\w.\-]+)")]
        root = next(instruction for instruction in condition.values() if instruction.is_root)
        bounds = [condition[name].operands[0] for name in root.operands if condition[name].opcode == "constant"]
        if root.opcode != "compare" or root.attribute(r"direction=(\w+)") != "LT" or len(bounds) != 1:
            raise ValueError(f"the loop {loop.name} has no constant number of turns")
        return int(bounds[0])

    def called(self, instruction: Instruction) -> Iterator[tuple[str, int]]:
        """Computations that an instruction runs, and how often."""
        if instruction.opcode == "while":
            yield instruction.attribute(r"body=%?([\w.\-]+)"), self.trip_count(instruction)
        elif instruction.opcode in ("call", "fusion", "fusion-start", "async-start"):
            yield instruction.attribute(r"(?:calls|to_apply)=%?([\w.\-]+)"), 1
        elif instruction.opcode == "conditional":  # all branches: an upper bound
            for name in re.findall(r"%([\w.\-]+)", instruction.attribute(r"branch_computations=\{([^}]*)\}") or ""):
                yield name, 1

    def _collectives(self, computation: str, trips: int, outer: int, devices: int) -> Iterator[Collective]:
        body = self.computations[computation]
        for instruction in body.values():
            kind = instruction.opcode.removesuffix("-start")
            if kind in KINDS:
                sent = sum(body[name].bytes for name in instruction.operands)
                groups = replica_groups(instruction.attributes, devices)
                if kind == "all-reduce" and _is_sliced(body, instruction, len(groups[0])):
                    kind = "reduce-scatter"
                yield Collective(
                    kind=kind,
                    dtype=arrays(instruction.shape)[0][0],
                    bytes=sent * len(groups[0]) if kind == "all-gather" else sent,
                    groups=groups,
                    trips=trips,
                    outer=outer,
                    role=_role(body, instruction) if trips > 1 else "awaited",
                    where=computation,
                    source=instruction.attribute(r'op_name="([^"]*)"') or "",
                )
            for name, times in self.called(instruction):
                inner = (times, outer * trips) if instruction.opcode == "while" else (trips, outer)
                yield from self._collectives(name, *inner, devices)

    def _own_operations(self, computation: str, instruction: Instruction) -> Operations:
        if instruction.opcode not in ("dot", "convolution"):
            return Operations()
        body = self.computations[computation]
        (_, out), *_ = arrays(instruction.shape)
        (_, left), (_, right) = (arrays(body[name].shape)[0] for name in instruction.operands)
        if instruction.opcode == "convolution":
            labels = instruction.attribute(r"dim_labels=\w+_(\w+)->")
            return Operations(linear=2.0 * math.prod(out) * math.prod(right) / right[labels.index("o")])
        contracted = [
            int(axis) for axis in instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}").split(",") if axis
        ]
        total = 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)
        batched = bool(instruction.attribute(r"lhs_batch_dims=\{(\d[\d,]*)\}"))
        return Operations(attention=total) if batched else Operations(linear=total)


@functools.cache
def bits_of(kind: str) -> int:
    """Of one number of a type as XLA names it: 8 of f8e4m3fn; of pred a byte, of a token nothing."""
    digits = re.search(r"\d+", kind)
    return int(digits.group()) if digits else {"pred": 8}.get(kind, 0)


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """(type, dimensions) of every array of a shape: `(f32[2,3]{1,0}, s32[])` gives f32 (2, 3) and s32 ()."""
    return [(kind, tuple(int(d) for d in dims.split(",") if d)) for kind, dims in _ARRAY.findall(shape)]


def ring_factor(kind: str, size: int) -> float:
    """What a device sends by a ring of `size` devices, over the bytes of the whole array."""
    if kind in ("collective-permute", "collective-broadcast"):
        return 1.0
    return (2.0 if kind == "all-reduce" else 1.0) * (size - 1) / size


def _split_operands(rest: str) -> tuple[str, str]:
    """What stands between an opcode's parentheses, and what follows."""
    depth = 1
    for index, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return rest[:index], rest[index + 1 :]
    return rest, ""


def _role(body: dict[str, Instruction], collective: Instruction) -> str:
    return "early" if _is_early(body, collective) else "late" if _is_late(body, collective) else "awaited"


def _is_early(body: dict[str, Instruction], collective: Instruction) -> bool:
    """Whether it works on slices of what the loop was given, which no iteration has to compute first."""
    pending, sliced = list(collective.operands), False
    while pending:
        instruction = body.get(pending.pop())
        if instruction is None or instruction.opcode in ("parameter", "constant"):
            continue
        if instruction.opcode not in _MOVES:
            return False
        sliced |= instruction.opcode == "dynamic-slice"
        # The indices of a slice are counters.
        pending += instruction.operands[:1] if instruction.opcode == "dynamic-slice" else instruction.operands
    return sliced


def _is_sliced(body: dict[str, Instruction], collective: Instruction, parts: int) -> bool:
    """Whether all that is used of its result is one of `parts` slices."""
    users = [user for user in body.values() if collective.name in user.operands]
    return bool(users) and all(
        user.opcode == "dynamic-slice" and user.bytes * parts == collective.bytes for user in users
    )


def _is_late(body: dict[str, Instruction], collective: Instruction) -> bool:
    """Whether its result only leaves the iteration."""
    pending, seen = [collective.name], set()
    while pending:
        name = pending.pop()
        for user in body.values():
            if name in user.operands and user.name not in seen:
                if user.opcode not in _LEAVES:
                    return False
                seen.add(user.name)
                if not user.is_root:
                    pending.append(user.name)
    return True
