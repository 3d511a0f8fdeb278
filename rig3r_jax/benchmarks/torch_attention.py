"""torch's scaled_dot_product_attention by kernel, timed on the arrays that our attentions are timed on."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rig3r_jax.benchmarks.torch_fast import attention_on
from rig3r_jax.benchmarks.torch_flash3 import pin_flash


def torch_attention_calls(
    arrays: list[np.ndarray], dtype: str, kernel: str
) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """(forward, forward and backward): `wait` waits for either; `to_host` takes what the first returns.

    Args:
        arrays: q, k, v and the gradient of the output, (b n k d), float32.
        dtype: what they are rounded to.
        kernel: a key of torch_fast.SDPA.

    Raises:
        RuntimeError: for flash3 where there is none.
    """
    pin_flash(kernel)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    q, k, v, cotangent = (
        torch.from_numpy(np.asarray(array, np.float32)).to(device, getattr(torch, dtype)).transpose(1, 2).contiguous()
        for array in arrays
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]

    attend = attention_on(kernel)

    def forward() -> Tensor:
        pin_flash(kernel)
        with torch.no_grad():
            return attend(q, k, v)

    def both() -> None:
        pin_flash(kernel)
        torch.autograd.grad(attend(q, k, v), leaves, cotangent)

    return forward, both


def wait(_: object) -> None:
    """Until the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def to_host(out: Tensor) -> np.ndarray:
    """An output as (b n k d), float32."""
    return out.transpose(1, 2).float().cpu().numpy()
