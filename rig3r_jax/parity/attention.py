"""Every attention of `models.attention` against softmax(q k^T / sqrt(d)) v in float64: outputs and gradients."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models.attention import IMPLEMENTATIONS, Attention, cannot_run, dense_attention, lack_of_package
from rig3r_jax.parity.compare import Comparison, Skipped, compare, report

# Largest relative errors (outputs, gradients) from inputs that the type can hold. float32 products run at full
# precision; "tf32" is float32 with the tensor cores' 10 bits of mantissa, as an NVIDIA GPU multiplies by default.
TOLERANCES = {"float32": (1e-5, 1e-5), "tf32": (5e-3, 5e-3), "bfloat16": (2e-2, 2e-2), "float16": (3e-3, 3e-3)}
SHAPES = ((2, 1024, 4, 64), (1, 777, 2, 64))  # (b, n, k, d); 777 is a multiple of no tile


QUICK = ("bfloat16", "float32")


def attention_command(quick: bool = False) -> int:
    """Prints the table for this machine's device, `quick`: of one shape in two types; 1 when anything is beyond its
    tolerance."""
    few = {"shapes": SHAPES[:1], "kinds": QUICK} if quick else {}
    rows = compare_attention(jax.default_backend(), **few)
    print(f"attention on {jax.devices()[0].device_kind}, against float64 on the CPU")
    print(report(rows))
    return int(any(isinstance(row, Comparison) and not row.passed for row in rows))


def compare_attention(
    backend: str, shapes: Sequence[tuple[int, ...]] = SHAPES, kinds: Sequence[str] = tuple(TOLERANCES)
) -> list[Comparison | Skipped]:
    """Rows for every implementation and type, of `kinds`, that `backend` ("cpu", "gpu") runs."""
    rows: list[Comparison | Skipped] = []
    for shape in shapes:
        for name, implementation in IMPLEMENTATIONS.items():
            for kind in kinds:
                output, gradient = TOLERANCES[kind]
                label = f"{name} {kind} {'x'.join(map(str, shape))}"
                if reason := _cannot(name, kind, backend):
                    rows.append(Skipped(label, reason))
                    continue
                arrays = _inputs(shape, "float32" if kind == "tf32" else kind)
                precision = "tensorfloat32" if kind == "tf32" else "highest"
                with jax.default_matmul_precision(precision):
                    ours = _run(implementation, arrays)
                theirs = _reference(arrays)
                for part, a, b in zip(("output", "d/dq", "d/dk", "d/dv"), ours, theirs, strict=True):
                    tolerance = output if part == "output" else gradient
                    rows.append(compare(f"{label} {part}", a, b, tolerance=tolerance))
    return rows


def _cannot(name: str, kind: str, backend: str) -> str:
    """Why an implementation does not run here, or nothing."""
    if kind == "tf32" and backend != "gpu":
        return "only GPUs have TF32"
    dtype = "float32" if kind == "tf32" else kind
    device = jax.devices()[0].device_kind if backend == jax.default_backend() else ""
    return cannot_run(name, backend=backend, dtype=dtype, kind=device) or lack_of_package(name)


def _inputs(shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    """q, k, v and the gradient of the output, normally distributed and representable in `dtype`."""
    rng = np.random.default_rng(0)
    return [np.asarray(rng.normal(size=shape), jnp.dtype(dtype)) for _ in range(4)]


def _run(attend: Attention, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Output and gradients with respect to q, k, v."""

    @jax.jit
    def run(q, k, v, cotangent):
        out, pullback = jax.vjp(attend, q, k, v)
        return out, *pullback(cotangent)

    return [np.asarray(array, np.float64) for array in run(*arrays)]


def _reference(arrays: list[np.ndarray]) -> list[np.ndarray]:
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        return _run(dense_attention, [np.asarray(array, np.float64) for array in arrays])
