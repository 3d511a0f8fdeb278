"""The training step compiled for many simulated devices, in a process of its own: sizes and the program's text.

`python -m rig3r_jax.benchmarks.scaling_program CONFIG.json OUT.json`, with XLA_FLAGS of `compile_for`.
"""

import dataclasses
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rig3r_jax.benchmarks.hlo import Program
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.training.config import load_config, save_config
from rig3r_jax.training.rig3r.memory import activation_bytes
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_batch

# The program as it is before XLA's CPU backend turns sums of bfloat16 into sums of float32.
_PASS = "all-reduce-promotion"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What one process found out. Bytes are of one device."""

    devices: int
    mesh: dict[str, int]
    parameter_count: int
    parameters: int  # bytes of the state, exact
    moments: int
    gradients: int  # as many as parameters, in float32
    batch: int
    activations: int | None  # kept for the backward pass on a GPU, by the remat policy's table; None where it has none
    cpu_temporaries: int  # by XLA's CPU backend, which holds much of what is bfloat16 in float32
    seconds: float  # to trace and compile
    program: Program


def compile_for(config: ConfigDict, devices: int) -> Compiled:
    """Compiles the step of a config whose mesh has `devices` devices; one sample per data * fsdp, layers in a loop.

    Raises:
        ValueError: with the last lines that the process wrote, where it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings, out, dump = (Path(folder) / name for name in ("config.json", "out.json", "dump"))
        config = ConfigDict(config).copy_and_resolve_references()
        config.model.unroll = False  # XLA's CPU backend takes minutes for 48 layers one by one
        save_config(config, settings)
        flags = (
            f"--xla_force_host_platform_device_count={devices} "
            "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
            f"--xla_dump_to={dump} --xla_dump_hlo_as_text --xla_dump_hlo_pass_re={_PASS} "
            "--xla_dump_hlo_module_re=jit_train_step"
        )
        # What jax takes from its cache of compiled programs is not compiled, and XLA writes no text of it.
        variables = {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
        done = subprocess.run(
            [sys.executable, "-m", "rig3r_jax.benchmarks.scaling_program", str(settings), str(out)],
            env={**os.environ, "XLA_FLAGS": flags, **variables},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise ValueError(f"the step for {devices} devices did not compile:\n{tail}")
        texts = sorted(dump.glob(f"*jit_train_step*before_{_PASS}.txt"))
        if not texts:
            raise ValueError(f"XLA wrote no program before its pass {_PASS}: this jaxlib names it differently")
        return Compiled(**read_json(out), program=Program(texts[-1].read_text()))


def mesh_config(config: ConfigDict, devices: int, *, fsdp: int, frames: int) -> ConfigDict:
    """The config with a mesh of `devices` devices and one sample per data * fsdp.

    Raises:
        ValueError: where fsdp * frames does not divide them, or frames not the images of a sample.
    """
    if devices % (fsdp * frames):
        raise ValueError(f"--devices {devices} must be a multiple of --fsdp * --frames = {fsdp * frames}")
    if config.sampling.num_views % frames:
        raise ValueError(f"--frames {frames} must divide sampling.num_views={config.sampling.num_views}")
    config = ConfigDict(config).copy_and_resolve_references()
    config.mesh.data, config.mesh.fsdp, config.mesh.frames = devices // (fsdp * frames), fsdp, frames
    config.train.batch_size, config.train.accumulate = devices // frames, 1
    return config


def _local_bytes(tree) -> int:
    """Bytes that one device holds of ShapeDtypeStructs with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _main(settings: str, out: str) -> None:
    config = load_config(Path(settings))
    start = time.perf_counter()
    run = PlacedModel(config)
    batch = abstract_batch(config, config.train.batch_size)
    memory = run.train_step.lower(run.abstract_state, batch).compile().memory_analysis()
    state, size = run.abstract_state, config.sampling.image_size
    table = run.model.dtype == jnp.bfloat16  # the table of the remat policies is of 16-bit activations
    kept = activation_bytes(run.model, config.sampling.num_views, size) if table else None
    sizes = {
        "devices": run.mesh.size,
        "mesh": dict(run.mesh.shape),
        "parameter_count": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "parameters": _local_bytes(state.params) + _local_bytes(state.ema),
        "moments": _local_bytes(state.opt_state),
        "gradients": _local_bytes(state.params),
        "batch": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch)) // run.mesh.size,
        "activations": None if kept is None else kept // config.mesh.frames,
        "cpu_temporaries": memory.temp_size_in_bytes,
        "seconds": time.perf_counter() - start,
    }
    write_json(out, sizes)


if __name__ == "__main__":
    _main(*sys.argv[1:])
