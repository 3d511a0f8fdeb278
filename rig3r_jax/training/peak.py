"""What a device can do, for MFU."""

import time

import jax
import jax.numpy as jnp

# Dense bf16 peak in TFLOP/s by a part of the device's name (NVIDIA data sheets, SXM, without sparsity).
PEAK_TFLOPS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H200": 989.0, "H100": 989.0, "A100": 312.0, "B200": 2250.0}


def peak_flops(device: jax.Device) -> float:
    """Operations per second that `device` can do: the data sheet's number, or a measured float32 product on others."""
    for name, tera in PEAK_TFLOPS.items():
        if name in device.device_kind:
            return tera * 1e12
    size = 1024
    x = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(jnp.dot)
    product(x, x).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
