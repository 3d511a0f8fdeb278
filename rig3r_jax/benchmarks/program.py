"""`rig3r bench program`: what the compiled step runs on a GPU, kernel by kernel, on any machine."""

import argparse
import collections
import dataclasses

from rig3r_jax.benchmarks.gpu_program import LOCAL, GpuProgram, compile_for_gpus
from rig3r_jax.benchmarks.gpu_targets import CARDS
from rig3r_jax.benchmarks.hlo import Operations
from rig3r_jax.benchmarks.kernels import Kernel, Sending, kernels, named, sendings
from rig3r_jax.benchmarks.result import Row, format_rows, write_result
from rig3r_jax.benchmarks.scaling_program import mesh_config
from rig3r_jax.training.flags import read_config

GB = 1e9

NOTES = """\
kernels: how often the device runs one of that kind in a step (or forward pass), loops as often as they turn, both sides
of a branch. GB: what they read and write, each array once; of a stack over layers the slice that is used. ms: the time
of those bytes at the rate of the card's memory, which no kernel beats; products, attention and convolutions take their
arithmetic besides. scatters: kernels of atomic additions; erfc: instructions of that function, which is slow; both
ought to be 0. collectives: bytes of the result; async: the device goes on while it runs; beside: the kernels that the
schedule places between its start and its end."""


def command(options: argparse.Namespace, rest: list[str]) -> int:
    """Compiles, prints tables, writes JSON."""
    devices = options.hosts * options.per_host
    config = mesh_config(read_config(rest), devices, fsdp=options.fsdp, frames=options.frames)
    where = f"{options.hosts} x {options.per_host} {options.target}"
    print(f"compiling the {options.what} for {where} ... ", end="", flush=True)
    compiled = compile_for_gpus(config, options.target, options.hosts, options.per_host, options.what)
    print(f"{compiled.seconds:.0f} s", flush=True)
    bandwidth = CARDS[options.target].bandwidth if options.target != LOCAL else None
    rows = kernel_rows(kernels(compiled.program), bandwidth)
    collectives = sending_rows(sendings(compiled.program, compiled.devices))
    summary = summary_of(compiled)
    print("", format_rows([summary]), "", format_rows(rows), sep="\n")
    print("", format_rows(collectives) if collectives else "no collectives", "", NOTES, sep="\n")
    settings = {
        **{key: getattr(options, key) for key in ("target", "hosts", "per_host", "fsdp", "frames", "what")},
        "config": config.name,
        "model": config.model.to_dict(),
    }
    name = options.name or f"program-{config.name}-{options.target}-{options.hosts}x{options.per_host}"
    more = {
        "summary": summary,
        "collectives": collectives,
        "compiler": {"jaxlib": compiled.jaxlib, "xla_flags": compiled.xla_flags, "device": compiled.device},
        "notes": NOTES.splitlines(),
    }
    write_result(options, name, settings, rows, **more)
    return 0


def summary_of(compiled: GpuProgram) -> Row:
    """Memory of one device, and what the program as a whole is judged by."""
    return {
        "devices": compiled.devices,
        "attention": " / ".join(dict.fromkeys(compiled.attention)),
        "arguments GB": compiled.arguments / GB,
        "temporaries GB": compiled.temporaries / GB,
        "held GB": compiled.held / GB,
        "scatters": sum(kernel.times for kernel in kernels(compiled.program) if kernel.kind == "scatters"),
        "erfc": named(compiled.program, "erfc"),
        "compile s": compiled.seconds,
    }


def kernel_rows(runs: list[Kernel], bandwidth: float | None) -> list[Row]:
    """One row per kind, part and direction; the last is their sum."""
    counts: collections.Counter = collections.Counter()
    moved: collections.Counter = collections.Counter()
    for kernel in runs:
        key = kernel.kind, kernel.part, "backward" if kernel.backward else "forward"
        counts[key] += kernel.times
        moved[key] += kernel.times * kernel.bytes

    def row(kind: str, part: str, way: str, count: int, size: int) -> Row:
        ms = {"ms": 1e3 * size / bandwidth} if bandwidth else {}
        return {"kernels": kind, "part": part, "pass": way, "per step": count, "GB": size / GB, **ms}

    rows = [row(*key, counts[key], moved[key]) for key in sorted(counts)]
    return [*rows, row("all", "", "", sum(counts.values()), sum(moved.values()))]


def sending_rows(runs: list[Sending]) -> list[Row]:
    """One row per alike collectives."""
    alike: collections.Counter = collections.Counter()
    for sending in runs:
        alike[dataclasses.replace(sending, times=0, operations=Operations())] += sending.times
    return [
        {
            "collective": sending.kind,
            "of": f"{sending.part}, {'backward' if sending.backward else 'forward'}",
            "MB": sending.bytes / 1e6,
            "per step": times,
            "async": "yes" if sending.asynchronous else "no",
            "beside": ", ".join(f"{kind} {count}" for kind, count in sending.beside) or "nothing",
        }
        for sending, times in sorted(alike.items(), key=lambda pair: -pair[0].bytes * pair[1])
    ]
