"""`rig3r bench train`: seconds, images/s, MFU, compilation and memory of one training step."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence

import jax
from jaxtyping import PyTree

from rig3r_jax.benchmarks.contest import Contestant, Result, contest_rows, run_contest
from rig3r_jax.benchmarks.result import Record, Row, format_rows, result_name
from rig3r_jax.benchmarks.setting import Setting, attention_of, host_batch, host_parameters, prepare, read_setting
from rig3r_jax.benchmarks.timing import Limit, peak_bytes
from rig3r_jax.schema import Batch
from rig3r_jax.training.peak import peak_flops
from rig3r_jax.training.rig3r.flops import train_flops
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import batch_sharding

# Largest relative difference of the first loss between us and the twin, by the type of the activations.
LOSS_TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}
HOW = "steps in a chain on the state that the one before left, each waited for; the batch stays on the device"


def command(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints the table of the step, of the peer and of the parts where asked for, and writes the JSON."""
    prepare(options)
    setting = read_setting(options, rest)
    params, batch = host_parameters(setting.config, host_batch(setting).views), host_batch(setting)
    ours = OurStep(setting, params, batch)
    name, notes = result_name("train", options, setting.config.name), [*setting.notes, HOW]
    settings = {**setting.as_json(), "notes": notes}
    record = Record(options, name, settings)
    print("\n".join(notes), flush=True)
    results = run_contest(
        [ours, *_peers(options, setting, params, batch)],
        repeats=options.repeats,
        warmup=options.warmup,
        in_turns=_in_turns(options, ours),
        check=lambda opened: check_equal_work({c.name: c.first_loss for c in opened}, setting.config.model.dtype),
        limit=Limit(options.limit_seconds),
        finished=lambda result: record.add(*step_rows(setting, ours.run, [result])),
    )
    later = [*_remarks(results), ours.memory_note()]
    notes += later  # in the settings of the record, too
    record.rows = step_rows(setting, ours.run, results)
    more = {"compiled": ours.planned, "attention": attention_of(ours.run.on_one_device)}
    print(*later, "attention: " + ", ".join(more["attention"]), sep="\n")
    if options.breakdown and results[0].timing:
        from rig3r_jax.benchmarks.breakdown import breakdown, format_breakdown

        parts = breakdown(ours.run, setting, params, batch, results[0].timing.median, repeats=options.repeats)
        print("\n" + format_breakdown(parts))
        more["breakdown"] = parts
    if options.profile and results[0].timing:
        from rig3r_jax.benchmarks.profile import profile_rows

        ours.open()
        more["profile"] = profile_rows(ours.call, ours.program())
        ours.close()
        print("\n" + format_rows(more["profile"]))
    record.end(**more)
    return 0 if results[0].timing else 1


class OurStep:
    """The training step of `training.rig3r.setup.PlacedModel`, as a contestant."""

    remark = ""

    def __init__(self, setting: Setting, params: PyTree, batch: Batch):
        self.run, self._params, self._batch = PlacedModel(setting.config), params, batch
        self.name, self.first_seconds, self.first_loss = f"rig3r_jax {jax.__version__}", 0.0, float("nan")
        self._state = self._data = None
        self.planned: dict[str, float] = {}
        self._compiled = None

    def compile(self) -> None:
        """Ahead of time, from shapes; nothing is allocated."""
        rows = batch_sharding(self.run.mesh)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), self._batch)
        start = time.perf_counter()
        lowered = self.run.train_step.lower(self.run.abstract_state, batch)
        traced = time.perf_counter()
        self._compiled = lowered.compile()
        memory = self._compiled.memory_analysis()
        self.planned = {
            "trace_seconds": traced - start,
            "compile_seconds": time.perf_counter() - traced,
            "argument_bytes": memory.argument_size_in_bytes,
            "temporary_bytes": memory.temp_size_in_bytes,
        }

    def open(self) -> None:
        """Compiles, unless that is done, places state and batch, and takes the first step."""
        if self._compiled is None:
            self.compile()
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.run.abstract_state.params)
        self._state = self.run.init().replace(params=jax.device_put(self._params, shardings))
        self._data = jax.device_put(self._batch, batch_sharding(self.run.mesh))
        jax.block_until_ready((self._state, self._data))
        start = time.perf_counter()
        self.call()
        step = time.perf_counter() - start
        self.first_seconds = step + self.planned["trace_seconds"] + self.planned["compile_seconds"]

    def call(self) -> None:
        """One step, waited for."""
        self._state, metrics = self._compiled(self._state, self._data)
        jax.block_until_ready((self._state, metrics))
        if math.isnan(self.first_loss):
            self.first_loss = float(metrics["loss/total"].compute())

    def close(self) -> None:
        """Lets go of state and batch."""
        self._state = self._data = None

    def program(self) -> str:
        """The compiled program's text."""
        return self._compiled.as_text()

    def peak_bytes(self) -> int:
        """Of the fullest device, as its allocator tells; on a CPU what the program asks for."""
        peaks = [peak_bytes(device) for device in self.run.mesh.local_devices]
        if None not in peaks:
            return max(peaks)
        return int(self.planned["argument_bytes"] + self.planned["temporary_bytes"])

    def memory_note(self) -> str:
        """What our peak memory means here."""
        if self.run.mesh.devices.flat[0].platform == "cpu":
            return "peak GB of a CPU: arguments and temporaries of the compiled program; not available for torch"
        return "peak GB: the most that was in use, by the allocators of JAX and torch"


def step_rows(setting: Setting, run: PlacedModel, results: Sequence[Result]) -> list[Row]:
    """One row per contestant."""
    operations = setting.rows * train_flops(run.model, setting.views, setting.size, setting.size)
    of_config = setting.config.train.peak_tflops
    peak = (of_config * 1e12 or peak_flops(run.mesh.devices.flat[0])) * run.mesh.size

    def rates(seconds: float) -> Row:
        return {
            "images/s": setting.rows * setting.views / seconds,
            "model TFLOP": operations / 1e12,
            "MFU %": 100 * operations / seconds / peak,
            "peak TFLOP/s": peak / 1e12,
        }

    return contest_rows(results, "step", "s/step", rates)


def check_equal_work(losses: Mapping[str, float], dtype: str) -> None:
    """ValueError when the first losses, by contestant, from the same weights and batch, say that their work differs."""
    first = next(iter(losses.values()), 0.0)
    tolerance = LOSS_TOLERANCE[dtype]
    if not all(abs(loss - first) <= tolerance * abs(first) for loss in losses.values()):  # NaN is beyond too
        both = ", ".join(f"{name} {loss:.6g}" for name, loss in losses.items())
        raise ValueError(
            f"the first losses differ by more than {tolerance:g} of their size: {both}; different work is not compared "
            "(`rig3r parity twin` with the same config finds where the two models part)"
        )


def _peers(options: argparse.Namespace, setting: Setting, params: PyTree, batch: Batch) -> list[Contestant]:
    if not options.peer:
        return []
    from rig3r_jax.benchmarks.peer import training_peers

    return training_peers(setting, params, batch, options.sdpa)


def _in_turns(options: argparse.Namespace, ours: OurStep) -> bool:
    """Whether all contestants fit the device at once; a GPU's memory is reckoned from what our program asks for."""
    device = ours.run.mesh.devices.flat[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if not options.peer or limit is None:
        return True
    ours.compile()
    ours_bytes = ours.planned["argument_bytes"] + ours.planned["temporary_bytes"]
    return 1.5 * ours_bytes * 3 < limit


def _remarks(results: Sequence[Result]) -> list[str]:
    return [f"{result.name}: {result.remark}" for result in results if result.timing and result.remark]
