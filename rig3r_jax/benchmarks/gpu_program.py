"""A program compiled for GPUs that need not be there, in a process of its own: its text, memory and seconds.

`python -m rig3r_jax.benchmarks.gpu_program CONFIG.json OUT.json step|predict HOSTSxDEVICESx1`, in the environment of
`compile_for_gpus`. XLA's GPU compiler comes with JAX's CUDA plugin; kernels are chosen by its rules, since none can be
tried.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
from ml_collections import ConfigDict

from rig3r_jax.benchmarks.gpu_targets import CARDS
from rig3r_jax.benchmarks.hlo import Program
from rig3r_jax.benchmarks.setting import attention_of
from rig3r_jax.extras import lack_of
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.training import xla
from rig3r_jax.training.config import load_config, save_config
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_batch

STEP, PREDICT = "step", "predict"
LOCAL = "local"  # the devices that JAX finds
_TARGET = "RIG3R_COMPILE_FOR"


@dataclasses.dataclass(frozen=True)
class GpuProgram:
    """What one process compiled. Bytes are of one device."""

    devices: int
    device: str  # its name
    attention: tuple[str, ...]  # implementations, of the encoder and of the decoder
    arguments: int
    temporaries: int
    outputs: int
    donated: int  # of the outputs, those that take the place of arguments
    seconds: float  # to trace and compile
    jaxlib: str
    xla_flags: str
    program: Program

    @property
    def held(self) -> int:
        """The most that a device holds."""
        return self.arguments + self.temporaries + self.outputs - self.donated


def compile_for_gpus(config: ConfigDict, target: str, hosts: int, per_host: int, what: str = STEP) -> GpuProgram:
    """Compiles the step, or the forward pass, of a config whose mesh has hosts * per_host devices.

    Args:
        config: of the run.
        target: a key of CARDS, or `local`.
        hosts: machines.
        per_host: GPUs of each.
        what: STEP or PREDICT.

    Raises:
        ValueError: JAX's CUDA plugin is missing, or the process failed; with the last lines that it wrote.
    """
    variables = {"JAX_ENABLE_COMPILATION_CACHE": "false", "TF_CPP_MIN_LOG_LEVEL": "2", _TARGET: target}
    if target != LOCAL:
        if all(lack_of([plugin]) for plugin in xla.CUDA_PLUGINS):
            raise ValueError(f"XLA's compiler for GPUs {lack_of(xla.CUDA_PLUGINS[:1])}")
        # This process needs no GPU: it only names its machine. The plugin would complain that there is none.
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        jax.config.update("jax_platforms", "cpu")
        # In the other one the plugin starts without a device, and asks for none.
        variables |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_PLATFORMS": ""}
        variables["XLA_FLAGS"] = _flags_for_gpus(os.environ.get("XLA_FLAGS", ""))
    with tempfile.TemporaryDirectory() as folder:
        settings, out = Path(folder) / "config.json", Path(folder) / "out.json"
        save_config(config, settings)
        words = [sys.executable, "-m", "rig3r_jax.benchmarks.gpu_program", settings, out, what, f"{hosts}x{per_host}x1"]
        done = subprocess.run(list(map(str, words)), env={**os.environ, **variables}, capture_output=True, text=True)
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise ValueError(f"the {what} for {hosts} x {per_host} {target} did not compile:\n{tail}")
        sizes = read_json(out)
        text = out.with_suffix(".txt").read_text()
    return GpuProgram(**{**sizes, "attention": tuple(sizes["attention"])}, program=Program(text))


def _flags_for_gpus(present: str) -> str:
    with mock.patch.dict(os.environ, {"XLA_FLAGS": present}):
        xla.use_flags("gpu")
        return os.environ["XLA_FLAGS"]


@contextlib.contextmanager
def described_devices(target: str, topology: str) -> Iterator[list]:
    """Devices that are described, not there; inside, JAX takes "gpu" for their platform.

    Args:
        target: a key of CARDS.
        topology: hosts x devices per host x 1.
    """
    import jax._src.xla_bridge as bridge
    from jax.experimental import topologies

    canonical = bridge.canonicalize_platform

    def without_device(platform: str) -> str:  # it raises for a platform of which no device has been started
        return "cuda" if platform in ("gpu", "cuda") else canonical(platform)

    description = topologies.get_topology_desc(
        platform="cuda", target_config=CARDS[target].description(), topology=topology
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(bridge, "canonicalize_platform", without_device))
        # Packages of kernels ask the device that is there what it is.
        if not lack_of(["dew_flash_attn"]):
            stack.enter_context(mock.patch("dew_flash_attn._hopper", lambda: CARDS[target].capability == 9))
        stack.enter_context(mock.patch("jax.extend.backend.get_default_device", lambda: description.devices[0]))
        yield list(description.devices)


def _main(settings: str, out: str, what: str, topology: str) -> None:
    target = os.environ[_TARGET]
    config = load_config(Path(settings))
    local = contextlib.nullcontext(jax.devices()) if target == LOCAL else described_devices(target, topology)
    with local as devices:
        start = time.perf_counter()
        run = PlacedModel(config, devices=devices)
        batch = abstract_batch(config, config.train.batch_size)
        if what == STEP:
            lowered = run.train_step.lower(run.abstract_state, batch)
        else:
            lowered = run.predict.lower(run.abstract_params, batch.views)
        compiled = lowered.compile()
        memory, model = compiled.memory_analysis(), run.on_one_device
        write_json(
            out,
            {
                "devices": run.mesh.size,
                "device": devices[0].device_kind,
                "attention": attention_of(model),
                "arguments": memory.argument_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
                "outputs": memory.output_size_in_bytes,
                "donated": memory.alias_size_in_bytes,
                "seconds": time.perf_counter() - start,
                "jaxlib": jax.lib.__version__,
                "xla_flags": os.environ.get("XLA_FLAGS", ""),
            },
        )
        Path(out).with_suffix(".txt").write_text(compiled.as_text())


if __name__ == "__main__":
    _main(*sys.argv[1:])
