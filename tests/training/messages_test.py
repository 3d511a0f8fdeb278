"""What processes tell each other comes back bit for bit, and names no code."""

import dataclasses
import math
import typing

import numpy as np
import pytest

from rig3r_jax.evaluation.scores import SCORER_KINDS, Scorer
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.evaluation.systems.score import SCENE_KINDS, score_scene
from rig3r_jax.training.messages import decode, encode


@dataclasses.dataclass
class Box:
    sides: np.ndarray
    name: str = ""


class Pair(typing.NamedTuple):
    first: int
    second: Box


def test_values_come_back():
    value = {"a": [None, True, 3, 0.1, "ü"], (1, 2): (), "nested": {"": {}}, 5: -(2**70)}
    assert decode(encode(value)) == value
    assert math.isnan(decode(encode(math.nan))) and decode(encode(-math.inf)) == -math.inf


@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", "<f2", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_and_objects_come_back_bit_for_bit(dtype, shape):
    array = np.random.default_rng(0).integers(0, 255, 1000, np.uint8).view("u1")
    array = array[: math.prod(shape) * np.dtype(dtype).itemsize] & (1 if dtype == "?" else 255)
    array = array.view(dtype).reshape(shape)
    pair = Pair(4, Box(array, "box"))
    scalar, back, plain = decode(encode([np.float32(0.1), pair, array.T]), (Box, Pair))
    assert type(scalar) is np.float32 and scalar == np.float32(0.1)
    assert type(back) is Pair and back.first == 4 and back.second.name == "box"
    for ours, theirs in ((back.second.sides, array), (plain, array.T)):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
    assert back.second.sides.flags.writeable


def test_what_is_no_message_is_refused():
    message = encode(Box(np.arange(5.0)))
    with pytest.raises(ValueError, match="of no process of this run"):
        decode(message)  # of a kind that the reader does not name
    for damaged in (b"", message[:20], message[:-1], b"\xff" * 30, encode(3)[:8] + b"{}"):
        with pytest.raises(ValueError, match="of no process of this run"):
            decode(damaged, (Box,))
    for value in (object(), {1, 2}, np.array([None]), print):
        with pytest.raises(TypeError):
            encode(value)


def test_what_was_measured_comes_back():
    poses = np.tile(np.eye(4), (2, 5, 1, 1))
    poses[..., :3, 3] = np.random.default_rng(0).normal(size=(2, 5, 3))
    scorer = Scorer()
    scorer.add_poses(poses, poses)
    scorer.add_rigs(poses, poses, np.tile(np.arange(5), (2, 1)))
    received = decode(encode(scorer), SCORER_KINDS)
    assert repr(received.scores()) == repr(scorer.scores())
    scene = PosedScene("truth", "poses", poses[0], names=tuple("abcde"))
    scores = score_scene(scene, scene, SystemOptions(), "first")
    assert repr(decode(encode(scores), SCENE_KINDS)) == repr(scores)
