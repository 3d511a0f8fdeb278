"""Analytic floating-point operations of a step, and what a device can do, for MFU."""

import time

import jax
import jax.numpy as jnp

from rig3r_jax.models.rig3r import Rig3R

# Dense bf16 peak in TFLOP/s by a part of the device's name (NVIDIA data sheets, SXM, without sparsity).
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "B200": 2250.0}


def forward_flops(model: Rig3R, views: int, height: int, width: int) -> float:
    """Operations (2 per multiply-add) of one forward pass over one sample."""
    rows, columns = height // model.patch, width // model.patch
    tokens = rows * columns
    inner = model.decoder_width or model.width

    def blocks(depth: int, d: int, n: int) -> float:  # qkv, proj, two MLP layers: 12 d^2 weights; q k^T and p v
        return 1.0 * depth * (2 * 12 * d * d * n + 4 * n * n * d)

    encoder = views * (2 * 3 * model.patch**2 * model.width * tokens + blocks(model.encoder_depth, model.width, tokens))
    decoder = blocks(model.decoder_depth, inner, views * tokens)
    rays = 2 * views * tokens * 2 * (inner * model.ray_hidden + model.ray_hidden * 3 * model.rays_per_patch**2)
    if model.point_head == "linear":
        points = 2 * views * tokens * inner * 4 * model.points_per_patch**2
    else:
        points = views * _dpt_flops(model, inner, rows, columns)
    return float(encoder + decoder + rays + points)


def _dpt_flops(model: Rig3R, inner: int, rows: int, columns: int) -> float:
    """Convolutions of the DPT head for one image."""
    features, last, cells = model.dpt_features, model.dpt_last, rows * columns
    total = 0.0
    for width, scale in zip((96, 192, 384, 768), (4, 2, 1, 0.5), strict=True):
        area = cells * scale**2
        resize = {4: width * width * 16, 2: width * width * 4, 1: 0, 0.5: width * width * 9 / 4}[scale]
        units = 2 if scale == 0.5 else 4  # convolutions of the residual units; the coarsest level has one unit
        total += 2 * cells * (inner * width + resize) + 2 * area * 9 * width * features
        total += 2 * area * units * 9 * features**2 + 2 * 4 * area * features**2
    pixels = cells * model.patch**2
    total += 2 * (cells * 64) * 9 * features * features // 2
    return total + 2 * pixels * (9 * features // 2 * last + last * 4)


def train_flops(model: Rig3R, views: int, height: int, width: int) -> float:
    """Operations of forward and backward for one sample: three times the forward pass, without recomputation."""
    return 3.0 * forward_flops(model, views, height, width)


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
