"""Freed memory of the host is kept: what a step needs comes from the kernel once."""

import ctypes
import platform
import subprocess
import sys
import types

import jax
import pytest

from rig3r_jax.training.host import keep_freed_memory

SCRIPT = """
import resource
import threading

import jax
import jax.numpy as jnp

from rig3r_jax.training.host import keep_freed_memory


def print_faults_of_the_last(work):
    for _ in range(4):
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)


assert keep_freed_memory()
step = jax.jit(lambda x: jax.lax.fori_loop(0, 2, lambda _, total: total + x, jnp.zeros(25 * 2**20)).sum())
print_faults_of_the_last(lambda: step(1.0).block_until_ready())  # one temporary of 100 MB
load = lambda: [b"x" * (20 * 2**20) for _ in range(5)]  # more than one heap of a thread
loader = threading.Thread(target=print_faults_of_the_last, args=(load,))
loader.start()
loader.join()
"""
PAGES = 100 * 2**20 // 4096  # that each would fetch


@pytest.fixture(autouse=True)
def options(monkeypatch) -> dict[str, object]:
    """What is asked of JAX; this process's own options stay."""
    options = {}
    monkeypatch.setattr(jax.config, "update", options.__setitem__)
    return options


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its options")
def test_temporaries_of_a_step_and_blocks_of_a_loader_are_those_freed_before():
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    of_step, of_loader = map(int, told.split())
    assert of_step < PAGES / 10 and of_loader < PAGES / 10


@pytest.mark.parametrize("refused", [-4, -1, -2])
def test_what_the_library_refuses_is_told_and_the_rest_is_set(monkeypatch, refused):
    asked = []

    def mallopt(option, value):
        asked.append(option)
        return int(option != refused)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=mallopt))
    assert not keep_freed_memory()
    assert asked == [-4, -1, -2]


def test_without_glibc_only_speed_is_lost(monkeypatch, options):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    assert not keep_freed_memory()
    assert options == {"jax_cpu_enable_async_dispatch": False}
