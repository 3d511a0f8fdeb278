"""A config that does not fit the devices is told what does, and what it is told passes the same checks."""

import pytest
from ml_collections import ConfigDict

from rig3r_jax.configs import demo, full
from rig3r_jax.training.rig3r import memory
from rig3r_jax.training.rig3r.checks import SMALLER, problems
from rig3r_jax.training.rig3r.layout import Layout, evaluation_batch_sizes, nearest_layout


def problem(config: ConfigDict, devices: int) -> str:
    """The one that is of the devices, or nothing."""
    config.data.mixture = []  # of which the checks speak too
    lines = [line for line in problems(config, devices) if not line.startswith("data.mixture")]
    assert len(lines) <= 1, lines
    return lines[0] if lines else ""


def follow(config: ConfigDict, message: str) -> Layout:
    """Sets every flag that the message ends with."""
    flags = [word for word in message.split() if word.startswith("--config.")]
    assert flags and message.endswith(" ".join(flags))
    for flag in flags:
        key, value = flag.removeprefix("--config.").split("=")
        section, name = key.split(".")
        config[section][name] = type(config[section][name])(value)
    return Layout.of(config)


@pytest.mark.parametrize(
    ("devices", "remedy"),
    [
        (1, "--config.mesh.data=1 --config.train.accumulate=128 --config.evaluation.batch_size=1"),
        (8, "--config.mesh.data=8 --config.train.accumulate=16 --config.evaluation.batch_size=8"),
        (64, "--config.mesh.data=64 --config.train.accumulate=2 --config.evaluation.batch_size=64"),
    ],
)
def test_fewer_devices_take_more_micro_batches_of_the_same_size(devices, remedy):
    config = full.get_config()
    message = problem(config, devices)
    assert message == f"mesh wants 128 devices, found {devices}: {remedy}"
    layout = follow(config, message)
    assert config.train.batch_size == 128 and config.train.batch_size // layout.shares == 1
    assert problem(config, devices) == ""


def test_more_devices_take_fewer_micro_batches():
    config = full.get_config()
    config.mesh.data, config.train.accumulate, config.evaluation.batch_size = 8, 16, 8
    layout = follow(config, problem(config, 128))
    assert layout == Layout(128, 1, 1, 1, "dots") and problem(config, 128) == ""


def test_devices_that_do_not_divide_the_batch_are_told_how_many_do():
    message = problem(full.get_config(), 3)
    assert "train.batch_size=128 has no equal shares on 3; use 2 of them" in message and "multiple of 3" in message


def test_cut_state_and_frames_stay_where_they_can():
    config = full.get_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.frames = 8, 8, 2
    assert nearest_layout(config, 32) == Layout(2, 8, 2, 4, "dots")
    assert nearest_layout(config, 8) == Layout(1, 4, 2, 16, "dots")
    assert nearest_layout(config, 1) == Layout(1, 1, 1, 64, "dots")


@pytest.mark.parametrize(
    ("gigabytes", "devices", "changed"),
    [
        (60, 8, {"accumulate"}),
        (30, 128, {"data", "fsdp"}),
        (12, 128, {"data", "fsdp", "remat"}),
        (30, 8, {"data", "fsdp", "accumulate", "remat"}),
    ],
)
def test_what_exceeds_the_memory_is_told_with_numbers_and_a_remedy_that_fits(monkeypatch, gigabytes, devices, changed):
    monkeypatch.setattr(memory, "device_bytes", lambda: gigabytes * 10**9)
    config = full.get_config()
    config.mesh.data = devices
    config.evaluation.batch_size = devices
    before, message = Layout.of(config), problem(config, devices)
    samples = 128 // devices
    assert message.startswith(f"a step with {samples} of 128 samples on a device at a time needs about ")
    assert f"GB, and JAX has {gigabytes}.0 GB of every device: parameters 2.5, moments 5.0, gradients 2.5" in message
    after = follow(config, message)
    assert {name for name, value in vars(after).items() if value != getattr(before, name)} == changed
    assert problem(config, devices) == ""


def test_evaluation_must_fit_too(monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda: 60 * 10**9)
    config = full.get_config()
    config.mesh.data, config.train.accumulate = 1, 128
    message = problem(config, 1)
    assert message.startswith("evaluation.batch_size=128 needs about ") and "gradients" not in message
    follow(config, message)
    assert 1 < config.evaluation.batch_size < 128 and problem(config, 1) == ""


def test_what_fits_nowhere_is_told(monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda: 10**9)
    for devices in (8, 128):
        assert problem(full.get_config(), devices).endswith(SMALLER)
    monkeypatch.setattr(memory, "device_bytes", lambda: None)
    assert problem(full.get_config(), 128) == ""


def test_batches_of_an_evaluation_hold_no_more_per_device_than_the_config_s():
    config = demo.get_config()
    config.evaluation.samples, config.evaluation.batch_size, config.mesh.data = 24, 12, 2
    assert evaluation_batch_sizes(config, 1) == [1, 2, 3, 4, 6]
    assert evaluation_batch_sizes(config, 4) == [4, 8, 12, 24]
    assert evaluation_batch_sizes(config, 5) == []
