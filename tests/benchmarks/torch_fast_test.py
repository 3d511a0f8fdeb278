"""The fast twin's remat policies repeat in the backward pass what ours repeat, and change no gradient."""

import collections

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rig3r_jax.benchmarks.torch_fast import KEPT, Checkpointed, attention_on, fast_twin  # noqa: E402
from rig3r_jax.parity.torch_layers import Block  # noqa: E402


class _Counting(TorchDispatchMode):
    """Counts products and attention kernels."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        self.counts["products"] += name in ("aten.mm.default", "aten.addmm.default")
        self.counts["attention"] += "scaled_dot_product" in name and "backward" not in name
        return function(*args, **(kwargs or {}))


def _gradients(policy):
    torch.manual_seed(0)
    block = Block(16, 2)
    block.attn.attend = attention_on("default")
    module = block if policy == "none" else Checkpointed(block, KEPT[policy])
    x = torch.randn(2, 5, 16, requires_grad=True)
    with _Counting() as counting:
        module(x, None).square().sum().backward()
    return [x.grad, *(parameter.grad for parameter in block.parameters())], counting.counts


@pytest.mark.parametrize(
    # The second product of the MLP is repeated by none: nothing of the backward pass wants its result.
    ("policy", "products", "attention"),
    [("dots", 0, 0), ("attention", 3, 0), ("full", 3, 1)],
)
def test_policy_repeats_what_ours_repeats(policy, products, attention):
    expected, once = _gradients("none")
    found, counts = _gradients(policy)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert once["attention"] == 1 and once["products"] == 4 + 8
    assert counts["attention"] - once["attention"] == attention
    assert products <= counts["products"] - once["products"] <= products + (products > 0)


def test_policy_that_torch_has_not_is_refused():
    with pytest.raises(ValueError, match="no remat policy 'qkv'; take none, full, attention, dots"):
        fast_twin({}, {}, dtype="float32", device="cpu", images_per_chunk=1, remat="qkv", kernel="default")
