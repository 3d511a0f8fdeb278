"""`rig3r bench inference`: bytes of images on the host to points and cameras on the host, by number of images."""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.benchmarks.contest import Contestant, contest_rows, run_contest
from rig3r_jax.benchmarks.result import Record, Row, result_name
from rig3r_jax.benchmarks.setting import attention_of, host_parameters, prepare, read_setting
from rig3r_jax.benchmarks.timing import Limit, peak_bytes
from rig3r_jax.geometry.recover import cameras_of
from rig3r_jax.parity.inputs import random_batch
from rig3r_jax.schema import Views
from rig3r_jax.training.rig3r.flops import forward_flops
from rig3r_jax.training.rig3r.setup import build_model
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.engine import export

HOW = (
    "one sample: uint8 images and metadata to the device, all heads, focal lengths and both cameras of every image in "
    "closed form (float32, on the device), points, confidences and cameras back to the host; one device"
)


def command(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints one row per number of images and contestant, and writes the JSON."""
    prepare(options)
    setting = read_setting(options, rest, devices=1)
    config, counts = setting.config, sorted(set(options.images))
    batch = random_batch(config.seed, 1, 1, setting.size)
    params = host_parameters(config, batch.views)
    weights = export(params, rig3r.table(params)) if options.peer else {}
    notes, limit = [HOW, *(note for note in setting.notes if "mesh" not in note)], Limit(options.limit_seconds)
    settings = {"config": config.name, "size": setting.size, "model": config.model.to_dict(), "notes": notes}
    record = Record(options, result_name("inference", options, config.name), settings)
    print("\n".join(notes))
    for count in counts:  # ascending: the peak that an allocator tells is that of the whole process
        views = random_batch(config.seed, 1, count, setting.size).views
        contestants: list[Contestant] = [OurInference(config, params, views), *_peers(options, config, weights, views)]
        results = run_contest(
            contestants,
            repeats=options.repeats,
            warmup=options.warmup,
            in_turns=jax.default_backend() == "cpu",
            limit=limit,
        )
        operations = forward_flops(contestants[0].model, count, setting.size, setting.size)
        rates = functools.partial(_rates, images=count, operations=operations)
        notes += [f"{count} images, {result.name}: {result.remark}" for result in results if result.remark]
        record.add(*contest_rows(results, "inference", "s", rates, {"images": count}))
    record.end(attention=attention_of(contestants[0].model))
    return 0 if any(row["s"] for row in record.rows) else 1


class OurInference:
    """The model and the cameras of its rays in one program, as a contestant."""

    remark = ""

    def __init__(self, config: ConfigDict, params: PyTree, views: Views):
        self.device = jax.devices()[0]
        self.model = build_model(config, self.device.platform, self.device.device_kind)
        self.name, self.first_seconds, self.planned_bytes = f"rig3r_jax {jax.__version__}", 0.0, 0
        self._host, self._views, self._params, self._compiled = params, views, None, None

    def infer(self, params: PyTree, views: Views):
        """Points, confidences, pose camera and rig camera of every image."""
        out = self.model.apply({"params": params}, views)
        pose = cameras_of(out.pose_directions, out.pose_center, views.image_mask)
        return out.points, out.confidence, pose, cameras_of(out.rig_directions, out.rig_center, views.image_mask)

    def open(self) -> None:
        """Compiles, places the parameters, makes the first call."""
        start = time.perf_counter()
        self._compiled = jax.jit(self.infer).lower(self._host, self._views).compile()
        memory = self._compiled.memory_analysis()
        self.planned_bytes = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
        self._params = jax.device_put(self._host, self.device)
        self.call()
        self.first_seconds = time.perf_counter() - start

    def call(self):
        """From the host to the host."""
        return jax.device_get(self._compiled(self._params, jax.device_put(self._views, self.device)))

    def peak_bytes(self) -> int:
        """As the allocator tells; on a CPU what the program asks for."""
        return peak_bytes(self.device) or self.planned_bytes

    def close(self) -> None:
        """Lets go of the parameters."""
        self._params = self._compiled = None


def _rates(seconds: float, *, images: int, operations: float) -> Row:
    return {"images/s": images / seconds, "TFLOP/s": operations / seconds / 1e12}


def _peers(options: argparse.Namespace, config: ConfigDict, weights: Mapping, views: Views) -> list[Contestant]:
    if not options.peer:
        return []
    from rig3r_jax.benchmarks.peer import inference_peers

    return inference_peers(config, weights, views, options.sdpa)
