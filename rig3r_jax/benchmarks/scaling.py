"""`rig3r bench scaling`: the full step compiled for many devices; bytes, collectives, predicted seconds, first wall."""

import argparse
import dataclasses
import math

from ml_collections import ConfigDict

from rig3r_jax.benchmarks.gpu_program import compile_for_gpus
from rig3r_jax.benchmarks.kernels import sendings
from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.benchmarks.scaling_model import (
    Compute,
    Machine,
    Traffic,
    compute_seconds,
    exposed_seconds,
    link_seconds,
    merge,
    scheduled,
    seconds_of,
)
from rig3r_jax.benchmarks.scaling_program import Compiled, compile_for, mesh_config
from rig3r_jax.training.flags import read_config
from rig3r_jax.training.rig3r.setup import build_model
from rig3r_jax.training.sharding import BATCH_AXES

GB = 1e9
COMPILERS = {"cpu": "XLA's for CPUs, overlap by rule", "cuda": "XLA's for GPUs, overlap by its schedule"}
MOST_DEVICES = 2**20
TOLERATED = 0.03  # share of a step that may be exposed communication

NOTES = """\
params, moments, gradients, batch: exact, per device, in GB. kept: activations that wait for the backward pass on a GPU
by the remat policy, and one chunk of the point head (analytic). CPU temp: what XLA's CPU backend would allocate, with
float32 in place of much bfloat16 and another attention. wire: bytes a device sends per step by rings. exposed: seconds
of communication that the step waits for when what a scan sends runs beside its next iteration; unhidden: when nothing
runs beside anything. Collectives, their types, groups and turns are those of the compiled program; rates are the
flags'; latency of small messages is a hop per doubling of the nodes. Elementwise work is an estimate, overlap a model:
seconds are computed, not measured, and a GPU takes longer (benchmarks/NOTES.md). Compare device counts by them."""


def command(options: argparse.Namespace, rest: list[str]) -> int:
    """Compiles, prints two tables, writes JSON."""
    config, machine = read_config(rest), machine_of(options)
    settings = {key: value for key, value in vars(options).items() if isinstance(value, int | float | list | tuple)}
    reports: list[Report] = []
    for devices in sorted(options.devices):
        meshed = mesh_config(config, devices, fsdp=options.fsdp, frames=options.frames)
        print(f"compiling the step for {devices} devices ({COMPILERS[options.compiler]}) ... ", end="", flush=True)
        reports.append(make_report(meshed, compile_for(meshed, devices), machine, options.compiler))
        print(f"{reports[-1].compiled.seconds:.0f} s", flush=True)
    rows = [summary_row(report, reports[0], options.device_gb * GB) for report in reports]
    collectives = [line for report in reports for line in collective_rows(report)]
    walls = wall_lines(reports[-1])
    large = [line for line in collectives if line["wire MB/step"] >= 1]
    print("", format_rows(rows), "", format_rows(large or collectives or [{"collectives": 0}]), "", sep="\n")
    print(*walls, "", NOTES, sep="\n")
    by = "" if options.compiler == "cpu" else f"-{options.compiler}"
    name = options.name or f"scaling-{config.name}-fsdp{options.fsdp}-frames{options.frames}{by}"
    settings |= {"config": config.name, "remat": config.model.remat, "compiler": COMPILERS[options.compiler]}
    more = {"collectives": collectives, "walls": walls, "notes": NOTES.splitlines()}
    write_result(options, name, settings, rows, **more)
    return 0


def machine_of(options: argparse.Namespace) -> Machine:
    """Rates of the flags.

    Raises:
        ValueError: for a rate that is not positive.
    """
    rates = {
        key: getattr(options, key)
        for key in ("per_node", "matmul_tflops", "attention_tflops", "memory_gb_s", "node_gb_s", "network_gb_s")
    }
    for key, value in rates.items():
        if value <= 0:
            raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be positive")
    return Machine(
        per_node=options.per_node,
        matmul=options.matmul_tflops * 1e12,
        attention=options.attention_tflops * 1e12,
        memory=options.memory_gb_s * GB,
        node=options.node_gb_s * GB,
        network=options.network_gb_s * GB,
        hop=options.hop_us * 1e-6,
    )


@dataclasses.dataclass(frozen=True)
class Report:
    """One device count: what was compiled, and the seconds that the model predicts."""

    compiled: Compiled
    machine: Machine
    compute: Compute
    traffic: tuple[Traffic, ...]

    def exposed(self, *, grow: int = 1, hide: bool = True, **rates: int | float) -> float:
        """Seconds of exposed communication; `rates` replace those of the machine."""
        machine = dataclasses.replace(self.machine, **rates)
        return exposed_seconds(self.traffic, self.compiled.program, machine, grow=grow, hide=hide)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.compute.total + self.exposed()

    @property
    def held_bytes(self) -> int:
        """That a device holds when the backward pass begins, and the gradients."""
        one = self.compiled
        return one.parameters + one.moments + one.gradients + one.batch + (one.activations or 0)

    def wall(self, device_bytes: float) -> str:
        """What keeps a step from being shorter: memory, the links that expose more than is tolerated, or computing."""
        if self.held_bytes > device_bytes:
            return "memory"
        if self.exposed() <= TOLERATED * self.seconds:
            return "compute"
        return "node link" if self.exposed(network=math.inf) > TOLERATED * self.seconds else "network"


def make_report(config: ConfigDict, compiled: Compiled, machine: Machine, compiler: str = "cpu") -> Report:
    """The report of a compiled step, whose config has its mesh. With `cuda` the collectives, and what runs beside them,
    are those of the GPU compiler's schedule for H100s, which compiles once more."""
    compute = compute_seconds(
        build_model(config, backend="cpu"),
        config.sampling.num_views,
        config.sampling.image_size,
        config.mesh.frames,
        compiled.gradients // 4,
        machine,
    )
    if compiler == "cuda":
        hosts = max(1, compiled.devices // machine.per_node)
        on_gpus = compile_for_gpus(config, "h100", hosts, compiled.devices // hosts)
        traffic = scheduled(sendings(on_gpus.program, on_gpus.devices), machine)
    else:
        traffic = merge(compiled.program.collectives(compiled.devices), machine)
    return Report(compiled, machine, compute, tuple(traffic))


def summary_row(report: Report, first: Report, device_bytes: float) -> Row:
    """One line of the first table; GB of one device, seconds of one step."""
    one = report.compiled
    return {
        "devices": one.devices,
        "mesh": "x".join(str(size) for size in one.mesh.values()),
        "samples": math.prod(one.mesh[axis] for axis in BATCH_AXES),
        "params": one.parameters / GB,
        "moments": one.moments / GB,
        "gradients": one.gradients / GB,
        "batch": one.batch / GB,
        "kept": None if one.activations is None else one.activations / GB,
        "CPU temp": one.cpu_temporaries / GB,
        "wire": sum(traffic.wire_bytes for traffic in report.traffic) / GB,
        "linear s": report.compute.linear,
        "attention s": report.compute.attention,
        "memory s": report.compute.memory,
        "exposed s": report.exposed(),
        "unhidden s": report.exposed(hide=False),
        "step s": report.seconds,
        "weak %": 100 * first.seconds / report.seconds,
        "at worst %": 100 * first.compute.total / (report.compute.total + report.exposed(hide=False)),
        "first wall": report.wall(device_bytes),
    }


def collective_rows(report: Report) -> list[Row]:
    """Lines of the second table: alike collectives of one loop or of the program outside of loops."""
    rows = []
    for traffic in sorted(report.traffic, key=lambda one: -one.wire_bytes):
        turn = traffic.beside
        if traffic.where:
            turn = seconds_of(report.compiled.program.operations(traffic.where), report.machine)
        rows.append(
            {
                "devices": report.compiled.devices,
                "collective": traffic.kind,
                "of": traffic.source,
                "type": traffic.dtype,
                "arrays": traffic.arrays,
                "MB": traffic.bytes / 1e6,
                "times": traffic.times,
                "group": traffic.size,
                "nodes": traffic.nodes,
                "role": traffic.role,
                "wire MB/step": traffic.wire_bytes / 1e6,
                "ms each": 1e3 * link_seconds(traffic, report.machine),
                "beside ms": 1e3 * turn if traffic.role != "awaited" else None,
            }
        )
    return rows


def wall_lines(report: Report) -> list[str]:
    """Where links begin to cost more than is tolerated: devices, and rate of the network."""
    compute, devices = report.compute.total, report.compiled.devices
    percent = f"{100 * TOLERATED:.0f}%"

    def too_slow(**change: int | float) -> bool:
        exposed = report.exposed(**change)
        return exposed > TOLERATED * (compute + exposed)

    grows = [2**i for i in range(21) if devices * 2**i <= MOST_DEVICES]
    grown = next((grow for grow in grows if too_slow(grow=grow)), None)
    limit = f"from {devices * grown:,} devices on" if grown else f"at no count up to {MOST_DEVICES:,} devices"
    lines = [f"more than {percent} of a step is exposed communication: {limit}, by more samples per step"]
    if any(traffic.nodes > 1 for traffic in report.traffic):
        low, high = 1e6, 1e13  # bytes per second
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if too_slow(network=middle) else (low, middle)
        lines.append(f"with {devices:,} devices: where the network carries less than {high / GB:.3g} GB/s per device")
    return lines
