"""A source of given loaders under the name "made", for tests of what takes any source."""

import dataclasses
import sys
import types

import pytest

from rig3r_jax.data.source import Source
from rig3r_jax.data.sources import SOURCES
from tests.data.scenes import make_scene


def scene_of(number):
    return make_scene(number, steps=2)


def loaders(*numbers):
    return [(f"scene_{number}", lambda number=number: scene_of(number)) for number in numbers]


def make_source(monkeypatch: pytest.MonkeyPatch, loaders_of_split: dict) -> type[Source]:
    """A class that counts in `reads` how often it listed scenes; it is in the table while `monkeypatch` lasts."""

    @dataclasses.dataclass(frozen=True)
    class Made(Source):
        size: int = 1

        needs_root = False
        reads = 0

        def splits(self):
            return tuple(loaders_of_split)

        def scenes(self, split):
            type(self).reads += 1
            return loaders_of_split[split]

    module = types.ModuleType("rig3r_jax.data.sources.made")
    module.Made = Made
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SOURCES, "made", "made:Made")
    return Made
