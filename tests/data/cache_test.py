"""Scenes in memory are the scenes of the source, read once while there is room."""

import dataclasses

from rig3r_jax.data.cache import CachedSource
from rig3r_jax.data.scene import BadRecord, Frame
from tests.data.scenes import make_scene


class Counting:
    """A source of three scenes that counts its readings."""

    def __init__(self):
        self.scenes = [make_scene(seed, 2, 2, (8, 8)) for seed in range(3)]
        self.readings = [0, 0, 0]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        self.readings[index] += 1
        return self.scenes[index]


def test_scenes_are_read_once_while_there_is_room():
    source = Counting()
    cached = CachedSource(source, 1.0)
    assert len(cached) == 3
    for _ in range(3):
        assert [cached[index] for index in range(3)] == source.scenes
    assert source.readings == [1, 1, 1]


def test_a_full_cache_reads_the_rest_every_time():
    source = Counting()
    one = sum(len(frame.image) + len(frame.depth) for frame in source.scenes[0].frames)
    cached = CachedSource(source, 1.5 * one / 1e9)
    for _ in range(3):
        assert [cached[index] for index in range(3)] == source.scenes
    assert source.readings == [1, 3, 3]


def test_a_scene_with_a_broken_frame_is_the_same_with_a_cache_and_without():
    """Draws of its other frames can use it, whatever was read before."""

    class BrokenFrame(Frame):
        def __init__(self):
            pass

        @property
        def image(self):
            raise BadRecord("frame 0 does not decode")

    source = Counting()
    scene = dataclasses.replace(source.scenes[1], frames=(BrokenFrame(), *source.scenes[1].frames))
    source.scenes[1] = scene
    cached = CachedSource(source, 1.0)
    for _ in range(2):
        assert cached[1] is scene and cached[0] is source.scenes[0]
    assert source.readings == [1, 2, 0]
