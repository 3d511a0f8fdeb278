"""Freed memory of the host is kept by every glibc, each as far as it lets itself be told."""

import ctypes
import types

import pytest

from rig3r_jax.training.host import keep_freed_memory

MMAP_THRESHOLD = -3


@pytest.mark.parametrize("limit", [2**30, 32 * 2**20])
def test_an_older_glibc_that_refuses_a_large_threshold_takes_its_largest_and_the_rest(monkeypatch, limit):
    taken = {}

    def mallopt(option, value):
        if option == MMAP_THRESHOLD and value > limit:
            return 0
        taken[option] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory()
    assert taken == {-1: 2**30, -2: 2**30, MMAP_THRESHOLD: limit}


@pytest.mark.parametrize("option", [-1, -2, MMAP_THRESHOLD])
def test_what_the_library_refuses_is_told(monkeypatch, option):
    library = types.SimpleNamespace(mallopt=lambda asked, value: int(asked != option))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not keep_freed_memory()


def test_without_glibc_only_speed_is_lost(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    assert not keep_freed_memory()
