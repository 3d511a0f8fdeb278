"""`rig3r bench attention`: every implementation on this device, forward and backward, at shapes that count."""

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.benchmarks.result import Record, Row, result_name
from rig3r_jax.benchmarks.setting import out_of_memory, prepare
from rig3r_jax.benchmarks.timing import Limit, time_device
from rig3r_jax.models.attention import IMPLEMENTATIONS, dense_attention

Shape = tuple[int, int, int, int]  # (b, n, k, d)
SHAPES: dict[str, tuple[Shape, ...]] = {  # encoder and decoder of the paper's step, then with wider heads
    "gpu": ((24, 1024, 16, 64), (1, 24576, 16, 64), (24, 1024, 8, 128), (1, 24576, 8, 128)),
    "cpu": ((6, 256, 4, 64), (1, 1536, 4, 64)),
}
HOW = (
    "operations: 4 b n^2 k d forward, 2.5 times that backward; both: output and gradients of q, k, v; error: largest "
    "difference from dense float32 over the largest number, of the first queries"
)
_CHECKED = 256  # queries whose output is compared


def command(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Prints one row per shape and implementation, and writes the JSON."""
    prepare(options)
    backend = jax.default_backend()
    dtype = options.dtype or ("bfloat16" if backend == "gpu" else "float32")
    shapes = [parse_shape(text) for text in options.shape] if options.shape else SHAPES.get(backend, SHAPES["cpu"])
    settings = {"shapes": shapes, "dtype": dtype, "notes": [HOW]}
    record, limit = Record(options, result_name("attention", options, dtype), settings), Limit(options.limit_seconds)
    print(HOW)
    for shape in shapes:
        arrays = random_arrays(shape)
        made = {name: _ours(name, arrays, dtype) for name in IMPLEMENTATIONS}
        made |= {f"torch SDPA {kernel}": _theirs(kernel, arrays, dtype) for kernel in _kernels(options)}
        expected = None
        for name, make in made.items():
            row = {"b,n,k,d": ",".join(map(str, shape)), "attention": name, "dtype": dtype, "forward ms": None}
            if limit.over():
                record.add({**row, "remark": Limit.LATE})
                continue
            expected = reference(arrays, dtype) if expected is None else expected
            record.add(row | _measured(shape, make, expected, options))
    record.end()
    return 0 if any(row["forward ms"] for row in record.rows) else 1


def parse_shape(text: str) -> Shape:
    """`24,1024,16,64` as numbers; ValueError for anything else."""
    try:
        batch, tokens, heads, width = (int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"shape is {text!r}; it must be four numbers, B,N,K,D, such as 24,1024,16,64") from None
    if min(batch, tokens, heads, width) < 1:
        raise ValueError(f"shape is {text!r}; every number must be at least 1")
    return batch, tokens, heads, width


def random_arrays(shape: Shape) -> list[np.ndarray]:
    """q, k, v and the gradient of the output, float32, normally distributed."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for _ in range(4)]


def reference(arrays: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    """The first queries' output by dense float32, from inputs rounded to `dtype`."""
    q, k, v = (jnp.asarray(x, dtype).astype(jnp.float32) for x in arrays[:3])
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(dense_attention)(q[:, :_CHECKED], k, v))


def _measured(shape: Shape, make: Callable, expected: np.ndarray, options: argparse.Namespace) -> Row:
    """Columns of one implementation at one shape; what cannot run says why."""
    row: dict[str, str | float] = {}
    operations = 4.0 * shape[0] * shape[1] ** 2 * shape[2] * shape[3]
    try:
        forward, both, to_host, wait = make()
        clock = {"repeats": options.repeats, "warmup": options.warmup, "wait": wait}
        seconds = time_device(forward, **clock).median
        row["forward ms"], row["forward TFLOP/s"] = 1e3 * seconds, operations / seconds / 1e12
        out = to_host(forward())[:, :_CHECKED]
        row["error"] = float(np.abs(out - expected).max() / np.abs(expected).max())
        seconds = time_device(both, **clock).median
        row["both ms"], row["both TFLOP/s"] = 1e3 * seconds, 3.5 * operations / seconds / 1e12
    except Exception as error:  # every framework has its own way to say that a kernel does not take these arrays
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        row["remark"] = "out of memory" if out_of_memory(error) else f"does not run: {reason}"
    return row


def _ours(name: str, arrays: Sequence[np.ndarray], dtype: str) -> Callable:
    """What makes (forward, both, to_host, wait) of an implementation."""

    def make():
        attend = IMPLEMENTATIONS[name]
        q, k, v, cotangent = (jnp.asarray(x, dtype) for x in arrays)
        forward = jax.jit(attend).lower(q, k, v).compile()

        def run(q, k, v, cotangent):
            out, pullback = jax.vjp(attend, q, k, v)
            return out, pullback(cotangent)

        both = jax.jit(run)  # compiled by its warm-up call: the forward pass may run where this has no memory

        def to_host(out):
            return np.asarray(out, np.float32)

        return lambda: forward(q, k, v), lambda: both(q, k, v, cotangent), to_host, jax.block_until_ready

    return make


def _theirs(kernel: str, arrays: Sequence[np.ndarray], dtype: str) -> Callable:
    """The same of torch's attention."""

    def make():
        from rig3r_jax.benchmarks.torch_attention import to_host, torch_attention_calls, wait

        return *torch_attention_calls(list(arrays), dtype, kernel), to_host, wait

    return make


def _kernels(options: argparse.Namespace) -> Sequence[str]:
    if not options.peer:
        return ()
    if options.sdpa:
        return options.sdpa
    if jax.default_backend() != "gpu":
        return ("default",)
    return ("flash", "cudnn", "flash3", "efficient")
