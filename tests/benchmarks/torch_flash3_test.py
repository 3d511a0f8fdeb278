"""FlashAttention-3 as a kernel of the twin: chosen for its own calls alone, and told in one line where it is not."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")

from torch.nn import attention  # noqa: E402

from rig3r_jax.benchmarks import torch_flash3  # noqa: E402
from rig3r_jax.benchmarks.attention import random_arrays  # noqa: E402
from rig3r_jax.benchmarks.contest import contest_rows, run_contest  # noqa: E402
from rig3r_jax.benchmarks.torch_attention import torch_attention_calls  # noqa: E402
from rig3r_jax.benchmarks.torch_flash3 import lack_of_flash3, pin_flash  # noqa: E402
from rig3r_jax.benchmarks.torch_step import Contestant, Twin  # noqa: E402
from rig3r_jax.parity.torch_rig3r import Rig3R  # noqa: E402


def _twin(kernel):
    return Twin(fields={}, weights={}, dtype="bfloat16", images_per_chunk=1, remat="none", kernel=kernel)


@pytest.fixture
def package(monkeypatch):
    """As if the package were installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "spec" if "flash_attn" in name else found(name))


@pytest.fixture
def switches(monkeypatch):
    """A FlashAttention-3 that can be switched on and off anywhere; what was done to it."""
    done = []

    class Handle:
        def remove(self):
            done.append("off")

    registered = {"FA3": lambda: done.append("on") or Handle()}
    monkeypatch.setattr(attention._registry, "_FLASH_ATTENTION_IMPLS", registered)
    monkeypatch.setattr(torch_flash3, "lack_of_flash3", lambda: "")
    yield done
    pin_flash("default")


def test_without_the_package_there_is_a_row_that_says_so():
    (result,) = run_contest([Contestant(_twin("flash3"))], repeats=1, warmup=0, in_turns=True)
    (row,) = contest_rows([result], "inference", "s", lambda seconds: {})
    assert row["inference"].endswith("compiled, SDPA flash3") and row["s"] is None
    assert row["remark"] == f"No available kernel: SDPA flash3 {lack_of_flash3()}"
    assert lack_of_flash3() == "needs flash_attn_interface: github.com/Dao-AILab/flash-attention, folder hopper"
    with pytest.raises(RuntimeError, match="flash3 needs flash_attn_interface"):
        torch_attention_calls(random_arrays((1, 4, 1, 8)), "bfloat16", "flash3")


def test_a_torch_that_does_not_know_it_is_told(monkeypatch):
    monkeypatch.delattr(attention, "list_flash_attention_impls")
    monkeypatch.delattr(attention, "current_flash_attention_impl")
    pin_flash("flash")  # which any torch has
    assert lack_of_flash3() == f"is not known to torch {torch.__version__}; 2.13 knows it"


@pytest.mark.parametrize(
    ("capability", "expected"),
    [(None, "wants a Hopper GPU: H100, H200"), ((8, 0), "wants a Hopper GPU: H100, H200"), ((9, 0), "")],
)
def test_it_runs_on_hopper_gpus_only(package, monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert lack_of_flash3() == expected


def test_it_is_switched_on_for_its_own_calls_alone(switches):
    seen = []

    class Model(Rig3R):
        __init__ = torch.nn.Module.__init__

        def forward(self, views):
            return views

    class Calls(Contestant):
        def build(self, compiler):
            def finish(predictions, more):
                seen.append((self.twin.kernel, attention.current_flash_attention_impl()))

            self.held_run = self._compiled(Model(), finish, lambda function: function)

        def call(self):
            self.held_run(None, None)

    contestants = [Calls(_twin(kernel)) for kernel in ("flash", "flash3")]
    for contestant in contestants:
        contestant.by_region = False
    run_contest(contestants, repeats=2, warmup=0, in_turns=True)
    assert seen == [("flash", None), ("flash3", "FA3")] * 3  # the first calls, then two turns
    assert switches == ["on", "off"] * 2 + ["on"]


def test_it_stays_on_between_its_calls(switches):
    pin_flash("flash3")
    pin_flash("flash3")
    assert switches == ["on"] and attention.current_flash_attention_impl() == "FA3"
    pin_flash("cudnn")
    pin_flash("default")
    assert switches == ["on", "off"] and attention.current_flash_attention_impl() is None
