"""FlashAttention-3 behind torch's scaled_dot_product_attention, where torch, the package and the GPU have it."""

import importlib.util

import torch
from torch.nn import attention

_NAME = "FA3"  # among torch's implementations of flash attention


def lack_of_flash3() -> str:
    """Why torch does not attend by FlashAttention-3 here; "" where it does."""
    if _NAME not in getattr(attention, "list_flash_attention_impls", list)():
        return f"is not known to torch {torch.__version__}; 2.13 knows it"
    if importlib.util.find_spec("flash_attn_interface") is None:
        return "needs flash_attn_interface: github.com/Dao-AILab/flash-attention, folder hopper"
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        return "wants a Hopper GPU: H100, H200"
    return ""


def pin_flash(kernel: str) -> None:
    """Makes torch's flash attention FlashAttention-3 for `flash3`, torch's own for every other kernel.

    The choice is the whole process's, so that each contestant makes it anew before it runs; nothing is done where it
    stands already.

    Raises:
        RuntimeError: "No available kernel" and why, where there is no FlashAttention-3.
    """
    active = getattr(attention, "current_flash_attention_impl", lambda: None)() == _NAME
    if kernel == "flash3" and not active:
        if lack := lack_of_flash3():
            raise RuntimeError(f"No available kernel: SDPA flash3 {lack}")
        attention.activate_flash_attention_impl(_NAME)
    elif kernel != "flash3" and active:
        attention.restore_flash_attention_impl()
