"""Where the time of a training step goes: every part timed alone on one device, against what the device can do."""

import typing

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import PyTree

from rig3r_jax.benchmarks.ceilings import copy_rate
from rig3r_jax.benchmarks.parts import Part, Parts
from rig3r_jax.benchmarks.result import format_rows
from rig3r_jax.benchmarks.setting import Setting
from rig3r_jax.benchmarks.timing import time_device
from rig3r_jax.schema import Batch
from rig3r_jax.training.rig3r.setup import PlacedModel, build_optimizer
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.step import make_train_step

NOTES = (
    "Parts alone, on one device; forward ms and backward ms are of all their calls in a step. Operations are those\n"
    "that the result needs: what a backward pass repeats is in the times only. A negative rest says that the whole\n"
    "step overlaps or fuses what stands apart here; over several devices the rest holds the communication too."
)


def breakdown(
    run: PlacedModel, setting: Setting, params: PyTree, batch: Batch, step_seconds: float, *, repeats: int = 10
) -> list[dict]:
    """One row per part, then recomputation, the optimizer, the rest and the whole step.

    Args:
        run: whose model it is; of it the implementation of attention too.
        setting: config and shapes.
        params: of the model, on the host.
        batch: on the host.
        step_seconds: that the whole step took.
        repeats: timed calls of each part.
    """
    parts = Parts(run.on_one_device, setting, params, batch)
    rows = [_row(part, *time_part(part, repeats)) for part in parts.all()]
    rows.append(_recompute(parts, repeats))
    rows.append(_optimizer(setting, params, repeats))
    accounted = sum(row["ms/step"] for row in rows)
    rows.append({"part": "rest", "ms/step": 1e3 * step_seconds - accounted})
    rows.append({"part": "step", "ms/step": 1e3 * step_seconds})
    for row in rows:
        row["share %"] = row["ms/step"] / (10 * step_seconds)
    return rows


def format_breakdown(rows: list[dict]) -> str:
    """The table and how to read it."""
    order = ("part", "calls", "forward ms", "backward ms", "ms/step", "share %", "TFLOP", "GB", "rate", "ceiling")
    keys = [*order, "unit", "of ceiling %", "ceiling from"]
    return f"{NOTES}\n\n{format_rows([{key: row.get(key) for key in keys} for row in rows])}"


def time_part(part: Part, repeats: int) -> tuple[float, float]:
    """Seconds of one forward call, which keeps what the backward pass wants, and of one backward call."""
    forward = jax.jit(lambda x, fixed: jax.vjp(lambda x: part.function(x, fixed), x))
    forward = forward.lower(part.differentiated, part.fixed).compile()
    out, pullback = forward(part.differentiated, part.fixed)
    backward = jax.jit(lambda pullback, cotangent: pullback(cotangent)).lower(pullback, out).compile()
    ahead = time_device(lambda: forward(part.differentiated, part.fixed), repeats=repeats).median
    return ahead, time_device(lambda: backward(pullback, out), repeats=repeats).median


def _row(part: Part, forward: float, backward: float) -> dict:
    """Times of a whole step, work and rate against the ceiling."""
    seconds = part.times * (forward + backward)
    operations = part.times * part.operations * (1 + part.backward_over_forward)
    work = operations or part.times * part.bytes
    return {
        "part": part.name,
        "calls": part.times,
        "forward ms": 1e3 * part.times * forward,
        "backward ms": 1e3 * part.times * backward,
        "ms/step": 1e3 * seconds,
        "TFLOP": operations / 1e12 if operations else None,
        "GB": None if operations else work / 1e9,
        **_rate(work / seconds, "TFLOP/s" if operations else "GB/s", *part.ceiling()),
    }


def _rate(rate: float, unit: str, ceiling: float, source: str) -> dict:
    """A rate per second, of operations or bytes, against its ceiling."""
    scale = {"TFLOP/s": 1e12, "GB/s": 1e9}[unit]
    return {
        "rate": rate / scale,
        "ceiling": ceiling / scale,
        "unit": unit,
        "of ceiling %": 100 * rate / ceiling,
        "ceiling from": source,
    }


def _recompute(parts: Parts, repeats: int) -> dict:
    """What blocks take more (or less) under the config's remat policy than when they keep everything."""
    policy = parts.model.remat
    ahead = back = 0.0
    for stack in ("encoder", "decoder") if policy != "none" else ():
        forward, backward = time_part(parts.block(stack, whole=True, remat=policy), repeats)
        kept_forward, kept_backward = time_part(parts.block(stack, whole=True), repeats)
        calls = parts.calls * parts.depth(stack)
        ahead, back = ahead + calls * (forward - kept_forward), back + calls * (backward - kept_backward)
    return {
        "part": f"recomputation (remat={policy})",
        "forward ms": 1e3 * ahead,
        "backward ms": 1e3 * back,
        "ms/step": 1e3 * (ahead + back),
    }


@typing.no_type_check
@struct.dataclass
class _Given:
    """Gradients that come from nowhere: an objective of `training.step` whose gradient costs nothing."""

    def prepare(self, grads):
        return grads, ()

    def loss(self, params, grads, _):
        return _given_gradient(params, grads), {}


@jax.custom_vjp
def _given_gradient(params, grads):
    return jnp.zeros(())


_given_gradient.defvjp(lambda params, grads: (jnp.zeros(()), grads), lambda grads, _: (grads, None))


def _optimizer(setting: Setting, params: PyTree, repeats: int) -> dict:
    """Norm and clipping, AdamW, the average where one is kept, and the choice of the finite state: the step's own."""
    config = setting.config
    optimizer, schedule = build_optimizer(config)
    step = make_train_step(_Given(), optimizer, schedule, ema_decay=config.optimizer.ema_decay)

    @jax.jit
    def start(params):
        zero = jnp.zeros((), jnp.int32)
        ema = params if config.optimizer.ema_decay else {}
        state = TrainState(zero, params, optimizer.init(params), ema, zero, zero)
        return state, jax.tree.map(lambda x: 1e-3 * x, params)

    state, grads = start(params)
    compiled = jax.jit(step, donate_argnums=0).lower(state, grads).compile()
    held = [state]
    del state

    def call():
        held[0], _ = compiled(held[0], grads)
        return held[0]

    seconds = time_device(call, repeats=repeats).median / config.mesh.fsdp
    passes = 7 + bool(config.optimizer.clip_norm) + 2 * bool(config.optimizer.ema_decay)  # p m v g in, p m v out; norm
    count = sum(x.size for x in jax.tree.leaves(grads)) / config.mesh.fsdp
    moved = 4.0 * passes * count
    return {
        "part": "optimizer",
        "calls": 1,
        "ms/step": 1e3 * seconds,
        "GB": moved / 1e9,
        **_rate(moved / seconds, "GB/s", copy_rate(), "copy"),
    }
