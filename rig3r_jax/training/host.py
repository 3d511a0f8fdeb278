"""The host's side of a fast step: memory that stays, threads that take turns."""

import ctypes
import ctypes.util
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_OLDER_LIMIT = 4 * 2**20 * ctypes.sizeof(ctypes.c_long)  # of the last one, by mallopt(3); newer glibc takes more


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks: XLA on CPU else hands its temporaries back to the kernel every step, and a
    small model's step takes nearly twice as long. Returns whether the C library took it."""
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError, TypeError):
        return False  # no glibc here: only speed is lost
    big = 2**30
    unmapped = any(mallopt(_MMAP_THRESHOLD, size) == 1 for size in (big, _OLDER_LIMIT))
    kept = [mallopt(option, big) == 1 for option in (_TRIM_THRESHOLD, _TOP_PAD)]
    return unmapped and all(kept)


def share_interpreter_quickly() -> None:
    """Lets the loader's threads give way to the training loop after half a millisecond instead of five: a small
    model's step is as short as that wait."""
    sys.setswitchinterval(5e-4)
