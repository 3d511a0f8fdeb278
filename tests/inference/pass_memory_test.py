"""Memory of a pass, told beforehand, and how many images fit."""

import jax
import pytest

from rig3r_jax.inference.memory import largest_pass, memory_limit, parse_bytes
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.inference.models.protocol import Model


def test_memory_is_told_of_the_program_of_a_pass(vggt_file):
    model = open_model(vggt_file)
    peaks = [model.peak_bytes(views, (24, 32)) for views in (2, 3)]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(model.program.params))
    assert parameters < peaks[0] < peaks[1] < 3 * parameters
    assert 0 < memory_limit() < 10**15


class Hungry(Model):
    """Wants 1000 bytes and 100 for every image, a little more for few of them; counts what it is asked."""

    name, usual_views, most_views = "Hungry", 2, None
    digest, describe = "hungry", None

    def __init__(self):
        self.asked = []

    def peak_bytes(self, views, size):
        self.asked.append(views)
        return 1000 + 100 * views + (views % 4) * 10


@pytest.mark.parametrize(
    "limit, most, least", [(10**6, 8, 8), (10**9, 400, 400), (5000, 400, 35), (1500, 8, 4), (1110, 3, 1)]
)
def test_the_largest_pass_within_a_limit(limit, most, least):
    model = Hungry()
    found = largest_pass(model, (8, 8), limit, most)
    assert least <= found <= most and model.peak_bytes(found, (8, 8)) <= limit
    assert found == most or model.peak_bytes(found + 1, (8, 8)) > 0.9 * limit
    assert len(model.asked) < 9
    with pytest.raises(ValueError, match="wants 0 MB for one image of 8 x 8.*raise --max-memory"):
        largest_pass(model, (8, 8), 1000, most)


@pytest.mark.parametrize(
    "text, number",
    [
        ("12GB", 12 * 10**9),
        ("12", 12 * 10**9),
        ("500 MB", 5 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("7b", 7),
        ("2g", 2 * 10**9),
    ],
)
def test_amounts_of_memory(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", "GB", "3 PB", "9" * 400])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ValueError, match="is no amount of memory"):
        parse_bytes(text)
