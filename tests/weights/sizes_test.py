"""What shapes tell is told by the majority; what is told by a user is checked."""

import numpy as np
import pytest

from rig3r_jax.weights.engine import ConversionError
from rig3r_jax.weights.sizes import Sizes, head_count, positive_number, unlike_public


@pytest.fixture
def tensors():
    """Three layers of width 8."""
    return {f"blocks.{i}.{name}": np.zeros((8, 2), np.float32) for i in range(3) for name in ("a", "b")}


def test_one_tensor_is_outvoted(tensors):
    tensors["blocks.0.a"] = np.zeros((5, 2), np.float32)
    tensors["blocks.0.b"] = np.zeros((), np.float32)
    sizes = Sizes(tensors, "nobody", r"blocks\..+")
    assert sizes.usual({r"blocks\.\d\.\w": 0}, 1) == 8
    assert sizes.usual({r"blocks\.\d\.a": 0, r"blocks\.\d\.b": 1}, 1) == 8
    assert sizes.usual({r"heads\..+": 0}, 7) == 7


def test_layers_are_those_of_most_names(tensors):
    del tensors["blocks.1.a"]
    tensors |= {"blocks.2.c": np.zeros(1), "blocks.9.d": np.zeros(1), "blocks.1.b.c": np.zeros(1)}
    tensors |= {f"blocks.{i}.e": np.zeros(1) for i in range(3)}
    sizes = Sizes(tensors, "nobody", r"blocks\..+")
    assert sizes.layers(r"blocks\.", 1) == 1  # five names, three of which stand alone
    for name in ("blocks.2.c", "blocks.1.b.c"):
        del tensors[name]
    assert Sizes(tensors, "nobody", r"blocks\..+").layers(r"blocks\.", 1) == 3
    assert sizes.layers(r"trunk\.", 6) == 6


def test_other_files_show_their_keys_and_the_prefix_that_is_too_much():
    others = {f"key{i}": np.zeros(1) for i in range(9)}
    with pytest.raises(ConversionError, match="no weights of DINOv2: the file has key0, key1, key2, key3, key4, ...$"):
        Sizes(others, "DINOv2", r"blocks\.\d+\..+")
    wrapped = {"head.weight": np.zeros(1), "net.blocks.0.a": np.zeros(1), "net.blocks.1.a": np.zeros(1)}
    with pytest.raises(ConversionError, match=r"net.blocks.1.a; those below 'net.' look like them: save them alone"):
        Sizes(wrapped, "DINOv2", r"blocks\.\d+\..+")
    with pytest.raises(ConversionError, match="net.blocks.1.a, also.blocks.0.a$"):
        Sizes({**wrapped, "also.blocks.0.a": np.zeros(1)}, "DINOv2", r"blocks\.\d+\..+")


@pytest.mark.parametrize("wrong", [0, -1])
def test_numbers_are_above_0(wrong):
    with pytest.raises(ValueError, match="iterations is .*above 0: say iterations=number"):
        positive_number("iterations", wrong)
    assert positive_number("iterations", 3) == 3


def test_heads_divide_the_width():
    assert head_count("heads", None, 384) == 6 and head_count("heads", None, 48) == 1
    assert head_count("heads", None, 48, otherwise=8) == 8 and head_count("heads", 12, 48, 8) == 12
    for wrong in (0, 7):
        with pytest.raises(ValueError, match="heads is"):
            head_count("heads", wrong, 64)
    with pytest.raises(ValueError, match="divide the width 64 .*a multiple of 4: say heads=number"):
        head_count("heads", 32, 64, multiple=4)
    with pytest.raises(ValueError, match="heads is 3; it must divide the width 200"):
        head_count("heads", None, 200)


def test_differences_from_the_public_model():
    fields = {"width": 8, "levels": [0, 1], "registers": 5, "more": 1}
    assert unlike_public(fields, {"width": 8, "levels": (0, 1), "registers": 4}) == ["registers 5 (4)"]
    assert unlike_public(fields, {"levels": (0, 2)}) == ["levels 0,1 (0,2)"]
