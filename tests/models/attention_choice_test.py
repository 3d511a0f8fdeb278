"""Which implementation of attention a model gets: by device, type and width of a head; what a name wants."""

import sys
import types

import jax.numpy as jnp
import pytest

from rig3r_jax import extras
from rig3r_jax.models import attention
from rig3r_jax.models.attention import cannot_run, fastest, select_attention
from rig3r_jax.models.rig3r import build

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


@pytest.fixture
def installed(monkeypatch):
    """As if every package were."""
    monkeypatch.setattr(attention, "lack_of", lambda packages: "")


@pytest.mark.parametrize(
    ("backend", "kind", "dtype", "expected"),
    [
        ("gpu", H100, "bfloat16", "flash3"),
        ("gpu", "NVIDIA H200", "float16", "flash3"),
        ("gpu", A100, "bfloat16", "cudnn"),
        ("gpu", "", "bfloat16", "cudnn"),  # an unknown GPU: what all run
        ("gpu", H100, "float32", "chunked"),
        ("cpu", "cpu", "bfloat16", "chunked"),
    ],
)
def test_auto_is_the_fastest_that_runs(installed, backend, kind, dtype, expected):
    assert fastest(backend=backend, dtype=dtype, kind=kind) == expected
    chosen = select_attention("auto", backend=backend, dtype=dtype, kind=kind)
    assert chosen.__name__ == f"{expected}_attention"


def test_auto_goes_by_the_rate_at_the_width_of_a_head(installed, monkeypatch):
    rates = {"cudnn": {64: 1.0, 128: 3.0}, "flash3": {64: 2.0, 128: 2.0}}
    for name, tflops in rates.items():
        kernel = attention.KERNELS[name]
        monkeypatch.setitem(attention.KERNELS, name, attention.Kernel(tflops, kernel.devices, kernel.package))
    chosen = {w: fastest(backend="gpu", dtype="bfloat16", kind=H100, head_width=w) for w in (32, 64, 80, 112, 256)}
    assert chosen == {32: "flash3", 64: "flash3", 80: "flash3", 112: "cudnn", 256: "cudnn"}


def test_auto_takes_nothing_whose_rate_is_not_measured(installed, monkeypatch):
    assert not attention.KERNELS["tokamax"].tflops
    assert select_attention("tokamax", backend="gpu", dtype="bfloat16", kind=H100).__name__ == "tokamax_attention"
    for name in ("flash3", "cudnn"):
        monkeypatch.delitem(attention.KERNELS, name)
    assert fastest(backend="gpu", dtype="bfloat16", kind=H100) == "chunked"


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("flash3", "dew_flash_attn", "flash"), ("tokamax", "tokamax", "tokamax")]
)
def test_without_its_package_a_kernel_is_not_chosen_and_its_name_says_what_is_missing(
    monkeypatch, name, package, extra
):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    assert fastest(backend="gpu", dtype="bfloat16", kind=H100) == "cudnn"
    with pytest.raises(
        ValueError, match=rf"^model.attention={name} needs {package}: pip install 'rig3r_jax\[{extra}\]'"
    ):
        select_attention(name, backend="gpu", dtype="bfloat16", kind=H100)


def test_why_a_kernel_does_not_run_is_said():
    assert cannot_run("flash3", backend="cpu", dtype="bfloat16") == "it wants an NVIDIA GPU"
    assert cannot_run("cudnn", backend="gpu", dtype="float32") == "it takes 16-bit types, not float32"
    told = cannot_run("flash3", backend="gpu", dtype="bfloat16", kind=A100)
    assert told == f"it is built for H100, H200, GH200, not for {A100}"
    assert not cannot_run("flash3", backend="gpu", dtype="bfloat16", kind=H100)
    assert not cannot_run("dense", backend="cpu", dtype="float64")


def test_encoder_and_decoder_choose_by_the_width_of_their_own_heads(installed, monkeypatch):
    monkeypatch.setitem(attention.KERNELS, "cudnn", attention.Kernel({64: 1.0, 128: 9e3}))
    model = build(variant="large", dtype="bfloat16", backend="gpu", kind=H100, decoder_heads=8)
    assert (model.heads, model.decoder_heads) == (16, 8)
    assert (model.attend.__name__, model.attend_jointly.__name__) == ("flash3_attention", "cudnn_attention")


def test_flash3_is_given_whole_arrays_and_named_inputs(monkeypatch):
    given = []
    package = types.SimpleNamespace(flash_mha=lambda q, k, v: given.append((q, k, v)) or v)
    monkeypatch.setitem(sys.modules, "dew_flash_attn", package)
    q, k, v = (jnp.full((1, 2, 3, 4), value, jnp.bfloat16) for value in (1, 2, 3))
    attention.flash3_attention(q, k, v)
    (arrays,) = given
    assert [float(a[0, 0, 0, 0]) for a in arrays] == [1, 2, 3]
