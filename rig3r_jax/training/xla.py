"""How XLA is asked to compile: flags by backend with a reason beside each, and where compiled programs are kept."""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import jax

LAYER_BYTES = 64 * 2**20  # above the 50 MB of float32 gradients of one ViT-L block

# Of the GPU's defaults (command buffers, high priority of the collectives' stream, autotuning level) nothing is said.
FLAGS: dict[str, dict[str, str]] = {
    "gpu": {
        # Collectives start as soon as their operands are there and end where their result is wanted.
        "xla_gpu_enable_latency_hiding_scheduler": "true",
        # Gradients of a layer are summed inside the scan over layers: without this flag an iteration ends with its
        # all-reduce, with it the sum of a layer runs while the layer before it goes backward.
        "xla_gpu_pipeline_all_reduce": "on",
        # The same for what a mesh with fsdp does in that loop: weights come one layer ahead, gradients leave one late.
        "xla_gpu_pipeline_all_gather": "on",
        "xla_gpu_pipeline_reduce_scatter": "on",
        # One collective per layer instead of two: 30 MB, the default, cuts the gradients of a block in two.
        "xla_gpu_all_reduce_combine_threshold_bytes": str(LAYER_BYTES),
        "xla_gpu_all_gather_combine_threshold_bytes": str(LAYER_BYTES),
        "xla_gpu_reduce_scatter_combine_threshold_bytes": str(LAYER_BYTES),
        # cuBLAS is the fastest for products of thousands by thousands, and tuning Triton's tiles for each of them
        # takes most of the time of the first compilation.
        "xla_gpu_enable_triton_gemm": "false",
        # A fused kernel that reads a layer's slice of a stack is cloned by that pass where the slice has a second
        # reader: every layer's attention then runs forward twice (benchmarks/NOTES.md).
        "xla_gpu_enable_dynamic_slice_fusion": "false",
        # Products that share an operand are merged below this size, and the parts of the result copied apart: two of
        # q, k and v, which the fused kernels read as arrays of their own.
        "xla_gpu_dot_merger_threshold_mb": "0",
    },
    "cpu": {},  # the defaults
}
# Under config.deterministic: kernels that add in an order of their own are excluded, and none is chosen by its speed at
# a start, which may choose another the next time. XLA refuses a program that it has no such kernels for.
DETERMINISTIC: dict[str, dict[str, str]] = {"gpu": {"xla_gpu_deterministic_ops": "true"}, "cpu": {}}

# Before this jaxlib these had other names, and were true or false. A name that XLA does not know ends the process.
_RENAMED_IN = (0, 11, 2)
_OLDER_NAMES = {
    f"xla_gpu_pipeline_{kind}": f"xla_gpu_enable_pipelined_{kind}"
    for kind in ("all_reduce", "all_gather", "reduce_scatter")
}

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def expected_backend(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> str:
    """The backend that JAX will start, told without starting it: "gpu" or "cpu".

    What JAX_PLATFORMS asks for first; without it a GPU where both a device and JAX's plugin for it are found.
    """
    first_choice = environment.get("JAX_PLATFORMS", "").split(",")[0].strip()
    if first_choice:
        return "gpu" if first_choice in ("cuda", "gpu") else "cpu"
    plugin = any(importlib.util.find_spec(name) for name in CUDA_PLUGINS)
    return "gpu" if plugin and any(devices.glob("nvidia[0-9]*")) else "cpu"


def flags_of(backend: str, jaxlib: str = jax.lib.__version__) -> dict[str, str]:
    """The flags for a backend as this version of jaxlib names them.

    Raises:
        ValueError: for a backend of which nothing is known.
    """
    if backend not in FLAGS:
        raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(FLAGS)}")
    older = tuple(int(word) for word in re.findall(r"\d+", jaxlib)[:3]) < _RENAMED_IN
    flags = FLAGS[backend]
    if older:
        flags = {
            _OLDER_NAMES.get(name, name): "true" if name in _OLDER_NAMES else value for name, value in flags.items()
        }
    return dict(flags)


def use_flags(backend: str | None = None, *, deterministic: bool = False) -> str:
    """Adds the flags of `backend`, by default the expected one, to XLA_FLAGS; what is set there stays as it is.

    `deterministic`: every start computes the same bits.

    To be called before JAX starts its backend, which reads the variable once.

    Returns:
        The flags that were added.

    Raises:
        ValueError: for a backend of which nothing is known.
    """
    backend = expected_backend() if backend is None else backend
    flags = flags_of(backend) | (DETERMINISTIC[backend] if deterministic else {})
    present = os.environ.get("XLA_FLAGS", "")
    if present.strip() and not present.lstrip().startswith("-"):
        return ""  # the name of a file of flags: its owner chose them all
    already_set = {word.lstrip("-").split("=")[0] for word in present.split()}
    added = " ".join(f"--{name}={value}" for name, value in flags.items() if name not in already_set)
    if added:
        os.environ["XLA_FLAGS"] = f"{present} {added}".strip()
    return added


def keep_host_devices() -> None:
    """Adds the CPU to a JAX_PLATFORMS that leaves it out: references in float64 and first weights are made there."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        os.environ["JAX_PLATFORMS"] = f"{platforms},cpu"


def use_compilation_cache(workdir: Path) -> None:
    """Keeps compiled programs in <workdir>/compiled, so that a second start compiles nothing anew.

    Leaves a folder that the user chose (JAX_COMPILATION_CACHE_DIR), and does nothing on CPU: a program compiled there
    may want instructions that the next machine lacks. Starts the backend.
    """
    if jax.config.jax_compilation_cache_dir is None and jax.default_backend() != "cpu":
        jax.config.update("jax_compilation_cache_dir", str(Path(workdir).resolve() / "compiled"))
