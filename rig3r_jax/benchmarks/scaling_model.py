"""Seconds of a step from what it computes and sends, and from the rates of a machine."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from rig3r_jax.benchmarks.hlo import Collective, Operations, Program, ring_factor
from rig3r_jax.benchmarks.kernels import Sending
from rig3r_jax.models.remat import repeated_linear, repeats_attention
from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.training.rig3r.flops import forward_parts
from rig3r_jax.training.rig3r.memory import point_head_elements
from rig3r_jax.training.xla import LAYER_BYTES

BACKWARD_ATTENTION = 2.5  # of the forward pass: the fused kernel makes the weights again, then four products
ELEMENTWISE = 19  # reads and writes of D 16-bit values per token and block, forward: norms, GELU, sums, splits
OPTIMIZER_BYTES = 28  # per parameter: gradient, parameter and two moments read, the last three written


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of a device and of what connects devices, per second and direction."""

    per_node: int
    matmul: float  # operations
    attention: float
    memory: float  # bytes
    node: float  # bytes, to a device of the same node
    network: float  # bytes, of each device, to another node
    hop: float  # seconds of latency that a doubling of the nodes adds


@dataclasses.dataclass(frozen=True)
class Compute:
    """Seconds of a step that a device computes."""

    linear: float
    attention: float
    memory: float  # elementwise work and the optimizer

    @property
    def total(self) -> float:
        return self.linear + self.attention + self.memory


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one computation that are alike: XLA sends them together, in parts of LAYER_BYTES."""

    kind: str
    dtype: str
    arrays: int
    bytes: int  # of all arrays
    size: int  # devices of a group
    nodes: int  # that a group spans, at most
    role: str  # as of hlo.Collective; "scheduled": beside what stands between its start and its end
    trips: int
    outer: int
    where: str
    source: str  # of the first: the part of the model, and whether forward or backward
    wire_bytes: float  # per device and step
    beside: float = 0.0  # seconds that the device computes meanwhile, of one that is scheduled

    @property
    def times(self) -> int:
        return self.trips * self.outer


def compute_seconds(model: Rig3R, views: int, size: int, frames: int, parameters: int, machine: Machine) -> Compute:
    """A step of one sample whose images are cut over `frames` devices; `parameters` are those a device updates."""
    parts = forward_parts(model, views, size, size)
    attention = sum(value for name, value in parts.items() if name.endswith("_attention"))
    blocks = parts["encoder_linear"] + parts["decoder_linear"]
    others = sum(parts.values()) - attention
    head = parts["point_head"] if model.point_head == "dpt" else 0.0  # runs once more in the backward pass
    linear = 3 * others + repeated_linear(model.remat) * blocks + head
    attention *= 1 + BACKWARD_ATTENTION + repeats_attention(model.remat)

    tokens, inner = views * (size // model.patch) ** 2, model.decoder_width or model.width
    channels = model.encoder_depth * model.width + model.decoder_depth * inner
    passes = 3 + (model.remat != "none")
    moved = passes * ELEMENTWISE * 2 * tokens * channels + 4 * 2 * 2 * views * point_head_elements(model, size)
    return Compute(
        linear=linear / frames / machine.matmul,
        attention=attention / frames / machine.attention,
        memory=(moved / frames + OPTIMIZER_BYTES * parameters) / machine.memory,
    )


def merge(collectives: Iterable[Collective], machine: Machine) -> list[Traffic]:
    """Collectives that are alike in kind, type, group and role, in the computation they are in."""
    merged: dict[tuple, list[Collective]] = {}
    for one in collectives:
        size = len(one.groups[0])
        if size > 1:
            key = (one.where, one.kind, one.dtype, size, _nodes(one, machine.per_node), one.role, one.trips, one.outer)
            merged.setdefault(key, []).append(one)
    return [
        Traffic(
            kind=kind,
            dtype=dtype,
            arrays=len(alike),
            bytes=sum(one.bytes for one in alike),
            size=size,
            nodes=nodes,
            role=role,
            trips=trips,
            outer=outer,
            where=where,
            source=_part(alike[0].source),
            wire_bytes=sum(one.wire_bytes * one.times for one in alike),
        )
        for (where, kind, dtype, size, nodes, role, trips, outer), alike in merged.items()
    ]


def scheduled(sendings: Iterable[Sending], machine: Machine) -> list[Traffic]:
    """The collectives of a GPU's program, each with what its schedule computes meanwhile."""
    return [
        Traffic(
            kind=sending.kind,
            dtype=sending.dtype,
            arrays=1,
            bytes=sending.bytes,
            size=len(sending.groups[0]),
            nodes=max(len({device // machine.per_node for device in group}) for group in sending.groups),
            role="scheduled" if sending.asynchronous else "awaited",
            trips=1,
            outer=sending.times,
            where="",
            source=f"{sending.part} {'backward' if sending.backward else 'forward'}",
            wire_bytes=ring_factor(sending.kind, len(sending.groups[0])) * sending.bytes * sending.times,
            beside=seconds_of(sending.operations, machine),
        )
        for sending in sendings
        if len(sending.groups[0]) > 1
    ]


def link_seconds(traffic: Traffic, machine: Machine, *, nodes: int | None = None) -> float:
    """One run by rings: within the nodes, each device its share between them, within the nodes again.

    `nodes` puts another number in place of the nodes that a group spans.
    """
    inside, nodes = traffic.size // traffic.nodes, nodes or traffic.nodes
    steps = 2.0 if traffic.kind == "all-reduce" else 1.0
    within = (inside - 1) / inside * traffic.bytes / machine.node
    between = (nodes - 1) / nodes * traffic.bytes / inside / machine.network
    latency = machine.hop * math.log2(nodes) * math.ceil(traffic.bytes / LAYER_BYTES)
    return steps * (within + between + latency)


def exposed_seconds(
    traffic: Sequence[Traffic], program: Program, machine: Machine, *, grow: int = 1, hide: bool = True
) -> float:
    """Seconds of a step that are exposed communication.

    Inside a loop, what is early or late runs beside the computing of a neighbouring iteration, and one run of it at
    the loop's end is waited for; what is awaited is waited for each time. `grow` multiplies the nodes of groups that
    span nodes; without `hide` everything is waited for.
    """
    total = 0.0
    loops: dict[tuple[str, int, int], list[float]] = {}
    for one in traffic:
        seconds = link_seconds(one, machine, nodes=one.nodes * grow if one.nodes > 1 else one.nodes)
        if hide and one.role == "scheduled":
            total += max(0.0, seconds - one.beside) * one.times
        elif hide and one.role != "awaited":
            loops.setdefault((one.where, one.trips, one.outer), []).append(seconds)
        else:
            total += seconds * one.times
    for (where, trips, outer), parts in loops.items():
        turn, sent = seconds_of(program.operations(where), machine), sum(parts)
        total += outer * ((trips - 1) * max(0.0, sent - turn) + sent)
    return total


def seconds_of(operations: Operations, machine: Machine) -> float:
    """To compute products."""
    return operations.linear / machine.matmul + operations.attention / machine.attention


def _part(source: str) -> str:
    """`jit(train_step)/transpose(jvp(Rig3R))/encoder/blocks/while/...` is "encoder/blocks backward"."""
    names = [word.removeprefix("Rig3R._") for word in source.split("/while")[0].split("/") if "(" not in word]
    direction = "backward" if "transpose(" in source else "forward" if "jvp(" in source else "step"
    return " ".join(["/".join(list(dict.fromkeys(names))[:2]), direction]).strip()


def _nodes(collective: Collective, per_node: int) -> int:
    """The most nodes that one of its groups spans."""
    return max(len({device // per_node for device in group}) for group in collective.groups)
