"""XLA's flags: known to the installed compiler, added without a word against the user, before any backend starts."""

import os
import subprocess
import sys

import jax
import pytest

from rig3r_jax.training import xla


def start(flags: str) -> subprocess.CompletedProcess:
    """JAX on CPU in a process of its own; the options of all backends are one list, which an unknown flag ends."""
    return subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_compiler_knows_every_flag():
    flags = [f"--{name}={value}" for backend in xla.FLAGS for name, value in xla.flags_of(backend).items()]
    flags += [f"--{name}={value}" for name, value in xla.DETERMINISTIC["gpu"].items()]
    done = start(" ".join(flags))
    assert done.returncode == 0, done.stderr[-500:]
    assert start("--xla_gpu_enable_what_nobody_knows=true").returncode != 0


@pytest.mark.parametrize(
    ("jaxlib", "name"),
    [
        ("0.10.2", "xla_gpu_enable_pipelined_all_reduce"),
        ("0.11.1", "xla_gpu_enable_pipelined_all_reduce"),
        ("0.11.2", "xla_gpu_pipeline_all_reduce"),
        ("0.11.3.dev20270101", "xla_gpu_pipeline_all_reduce"),
        ("0.12.0.1", "xla_gpu_pipeline_all_reduce"),
    ],
)
def test_flags_are_named_as_the_version_of_jaxlib_has_them(jaxlib, name):
    flags = xla.flags_of("gpu", jaxlib)
    assert [flag for flag in flags if "pipeline" in flag and "reduce" in flag and "scatter" not in flag] == [name]
    assert flags[name] == ("on" if name in xla.FLAGS["gpu"] else "true") and len(flags) == len(xla.FLAGS["gpu"])


@pytest.mark.parametrize(
    "platforms, plugin, devices, expected",
    [
        ("cpu", True, ("nvidia0",), "cpu"),
        ("cuda,cpu", False, (), "gpu"),
        ("", True, ("nvidia0", "nvidiactl"), "gpu"),
        ("", True, ("nvidiactl",), "cpu"),
        ("", False, ("nvidia0",), "cpu"),
    ],
)
def test_backend_is_foretold(monkeypatch, tmp_path, platforms, plugin, devices, expected):
    monkeypatch.setattr(xla.importlib.util, "find_spec", lambda name: object() if plugin else None)
    for name in devices:
        (tmp_path / name).touch()
    assert xla.expected_backend({"JAX_PLATFORMS": platforms}, tmp_path) == expected


def test_backend_is_foretold_here():
    assert xla.expected_backend({**os.environ, "JAX_PLATFORMS": "cpu"}) == jax.default_backend()


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true --xla_dump_to=/tmp/hlo")
    added = xla.use_flags("gpu")
    words = os.environ["XLA_FLAGS"].split()
    assert words[:2] == ["--xla_gpu_enable_triton_gemm=true", "--xla_dump_to=/tmp/hlo"]
    assert words[2:] == added.split() and len(words) == len(xla.FLAGS["gpu"]) + 1
    assert xla.use_flags("gpu") == ""  # nothing twice
    assert os.environ["XLA_FLAGS"].split() == words


@pytest.mark.parametrize("present", ["", "/etc/flags_of_xla", "--xla_backend_optimization_level=0"])
def test_nothing_is_added_on_cpu_or_to_a_file_of_flags(monkeypatch, present):
    monkeypatch.setenv("XLA_FLAGS", present)
    assert xla.use_flags("gpu" if present.startswith("/") else "cpu") == ""
    assert os.environ["XLA_FLAGS"] == present


@pytest.mark.parametrize("backend, added", [("gpu", "--xla_gpu_deterministic_ops=true"), ("cpu", "")])
def test_deterministic_runs_ask_for_it_before_the_backend_starts(monkeypatch, backend, added):
    monkeypatch.setenv("XLA_FLAGS", "")
    flags = xla.use_flags(backend, deterministic=True).split()
    monkeypatch.setenv("XLA_FLAGS", "")
    assert set(flags) - set(xla.use_flags(backend).split()) == set(added.split())
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    assert "deterministic" not in xla.use_flags(backend, deterministic=True)


def test_unknown_backend():
    with pytest.raises(ValueError, match="'tpu'; it must be one of gpu, cpu"):
        xla.use_flags("tpu")


def test_flags_start_no_backend():
    code = (
        "from rig3r_jax.training.xla import use_flags; use_flags(); use_flags('gpu')\n"
        "from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("backend, chosen, kept", [("gpu", None, "w"), ("gpu", "/c", "/c"), ("cpu", None, None)])
def test_compiled_programs_are_kept(monkeypatch, tmp_path, backend, chosen, kept):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", chosen)
        xla.use_compilation_cache(tmp_path)
        assert jax.config.jax_compilation_cache_dir == (str(tmp_path / "compiled") if kept == "w" else kept)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
