"""`rig3r bench inference`: bytes of images on the host to points and cameras on the host, by number of images."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.benchmarks.contest import Contestant, Result, run_contest
from rig3r_jax.benchmarks.result import format_rows, save_result
from rig3r_jax.benchmarks.setting import host_parameters, prepare, read_setting, result_name
from rig3r_jax.benchmarks.timing import peak_bytes
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
    if counts[0] < 1:
        raise ValueError(f"images is {counts[0]}; at least 1 is looked at")
    batch = random_batch(config.seed, 1, 1, setting.size)
    params = host_parameters(config, batch.views)
    weights = export(params, rig3r.table(params)) if options.peer else {}
    rows, notes = [], [HOW, *(note for note in setting.notes if "mesh" not in note)]
    for count in counts:  # ascending: the peak that an allocator tells is that of the whole process
        views = random_batch(config.seed, 1, count, setting.size).views
        contestants: list[Contestant] = [OurInference(config, params, views), *_peers(options, config, weights, views)]
        results = run_contest(
            contestants, repeats=options.repeats, warmup=options.warmup, in_turns=jax.default_backend() == "cpu"
        )
        rows += inference_rows(count, setting.size, contestants[0], results)
        notes += [f"{count} images, {result.name}: {result.remark}" for result in results if result.remark]
    print("\n".join(notes), format_rows(rows), sep="\n\n")
    if options.out:
        settings = {"config": config.name, "size": setting.size, "model": config.model.to_dict(), "notes": notes}
        print(f"\n{save_result(Path(options.out), result_name(options, config.name), settings, rows)}")
    return 0 if any(row["s"] for row in rows) else 1


class OurInference:
    """The model and the cameras of its rays in one program, as a contestant."""

    remark = ""

    def __init__(self, config: ConfigDict, params: PyTree, views: Views):
        self.device = jax.devices()[0]
        self.model = build_model(config, backend=self.device.platform)
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


def inference_rows(images: int, size: int, ours: OurInference, results: Sequence[Result]) -> list[dict]:
    """One row per contestant."""
    operations, rows = forward_flops(ours.model, images, size, size), []
    for result in results:
        row = {"images": images, "inference": result.name}
        if result.timing is None:
            rows.append({**row, "s": None, "remark": result.remark})
            continue
        seconds = result.timing.median
        row |= {
            "s": seconds,
            "spread %": 100 * result.timing.spread,
            "images/s": images / seconds,
            "TFLOP/s": operations / seconds / 1e12,
            "compile s": result.compile_seconds,
            "peak GB": None if result.peak_bytes is None else result.peak_bytes / 1e9,
        }
        if len(results) > 1:
            first = results[0].timing
            row["peer / ours"] = seconds / first.median if first else None
        rows.append(row)
    return rows


def _peers(options: argparse.Namespace, config: ConfigDict, weights: Mapping, views: Views) -> list[Contestant]:
    if not options.peer:
        return []
    from rig3r_jax.benchmarks.peer import inference_peers

    return inference_peers(config, weights, views, options.sdpa)
