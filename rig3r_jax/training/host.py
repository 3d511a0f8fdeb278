"""The host's side of a fast step: memory that stays, threads that take turns."""

import ctypes
import ctypes.util
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks: XLA on CPU else hands its temporaries back to the kernel every step, and a
    small model's step takes nearly twice as long. Returns whether the C library took it."""
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError, TypeError):
        return False  # no glibc here: only speed is lost
    big = 2**30
    return all(mallopt(option, big) == 1 for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD))


def share_interpreter_quickly() -> None:
    """Lets the loader's threads give way to the training loop after half a millisecond instead of five: a small
    model's step is as short as that wait."""
    sys.setswitchinterval(5e-4)
