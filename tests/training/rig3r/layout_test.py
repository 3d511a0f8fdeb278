"""A config that does not fit the devices is told what does, and what it is told passes the same checks."""

import pytest
from ml_collections import ConfigDict

from rig3r_jax.configs import demo, full
from rig3r_jax.training.rig3r import memory, task
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


@pytest.mark.parametrize(
    ("devices", "batch", "remedy"),
    [
        (
            3,
            96,
            "--config.mesh.data=3 --config.train.accumulate=32 --config.evaluation.samples=129 "
            "--config.evaluation.batch_size=3",
        ),
        (
            256,
            256,
            "--config.mesh.data=256 --config.evaluation.samples=256 --config.evaluation.batch_size=256",
        ),
    ],
)
def test_devices_that_no_batch_of_an_evaluation_fits_take_more_samples(devices, batch, remedy):
    config = full.get_config()
    config.train.batch_size = batch
    message = problem(config, devices)
    assert message.endswith(f"found {devices}: {remedy}")
    follow(config, message)
    assert problem(config, devices) == ""


@pytest.mark.parametrize("devices", [None, 3])
def test_a_batch_of_an_evaluation_that_the_mesh_does_not_divide_is_given_one_that_it_does(devices):
    config = full.get_config()
    config.train.batch_size, config.mesh.data, config.train.accumulate = 96, 3, 32
    message = problem(config, devices)
    assert message.startswith("evaluation.batch_size=128 must be a multiple of mesh.data * mesh.fsdp = 3: ")
    follow(config, message)
    assert (config.evaluation.samples, config.evaluation.batch_size) == (129, 3)
    assert problem(config, devices) == ""
    config.evaluation.samples, config.evaluation.batch_size = 0, 4
    assert "evaluation.samples is 0" in "".join(problems(config, devices))


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


@pytest.mark.parametrize(
    ("gigabytes", "devices", "mesh", "rows"),
    [
        (None, 1, (1, 1, 1), 16),
        (8, 1, (1, 1, 1), 4),
        (8, 8, (8, 1, 1), 32),
        (3, 8, (4, 2, 1), 8),
        (2, 8, (2, 4, 1), 8),
    ],
)
def test_an_evaluation_takes_what_fits_the_devices_whatever_trained_it(monkeypatch, gigabytes, devices, mesh, rows):
    monkeypatch.setattr(memory, "device_bytes", lambda: gigabytes and gigabytes * 10**9)
    config = full.get_config()
    config.mesh.data, config.mesh.fsdp, config.evaluation.batch_size = 1, 8, 128
    task.use_devices(config, devices)
    assert (config.mesh.data, config.mesh.fsdp, config.mesh.frames) == mesh
    assert config.evaluation.batch_size == rows


def test_an_evaluation_that_fits_no_device_is_told_with_numbers(monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda: 10**9)
    with pytest.raises(ValueError, match="one sample on a device needs about .* GB, and JAX has 1.0 GB .*; use more"):
        task.use_devices(full.get_config(), 1)
    with pytest.raises(ValueError, match="samples=128 is no multiple of 12 devices; use 8 of them"):
        task.use_devices(full.get_config(), 12)


def test_batches_of_an_evaluation_hold_no_more_per_device_than_the_config_s():
    config = demo.get_config()
    config.evaluation.samples, config.evaluation.batch_size, config.mesh.data = 24, 12, 2
    assert evaluation_batch_sizes(config, 1) == [1, 2, 3, 4, 6]
    assert evaluation_batch_sizes(config, 4) == [4, 8, 12, 24]
    assert evaluation_batch_sizes(config, 5) == []
