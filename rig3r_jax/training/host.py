"""The host's side of a fast step: memory that stays, threads that take turns."""

import ctypes
import ctypes.util
import sys

import jax

# Options of glibc's malloc.h and their values, for mallopt(3).
_KEEPING = {
    -4: 0,  # M_MMAP_MAX: no block is a mapping of its own, gone when it is freed
    -1: -1,  # M_TRIM_THRESHOLD: the end of a heap stays
    -2: 2**30,  # M_TOP_PAD: so do the further heaps, of 64 MB each, of a thread that is not the main one
}


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks, and XLA to run a CPU's programs on the thread that calls them. Returns whether
    the C library took it.

    To be called before JAX starts its devices. All temporaries of a program are one block. By default XLA asks for it
    on a thread of its own, and glibc keeps no block of more than 64 MB for such a thread, whatever its options: the
    memory is fetched from the kernel page by page and goes back at the end of every step. The main thread has no limit.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError, TypeError):
        return False  # no glibc here: only speed is lost
    return all([mallopt(option, value) == 1 for option, value in _KEEPING.items()])


def share_interpreter_quickly() -> None:
    """Lets the loader's threads give way to the training loop after half a millisecond instead of five: a small
    model's step is as short as that wait."""
    sys.setswitchinterval(5e-4)
