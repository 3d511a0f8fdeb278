"""Tests marked slurm run where they are asked for: `make test-slurm`, or pytest -m slurm."""

import sys

import pytest

from tests.launch.private_slurm import private_slurm


def pytest_collection_modifyitems(config, items):
    """Takes them out of every other run; a skip would be a failure where none is allowed."""
    if "slurm" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("slurm")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A private SLURM whose jobs run on CPU under this interpreter."""
    with private_slurm(tmp_path_factory.mktemp("slurm")) as running:
        running.environment |= {"RIG3R_VENV": sys.prefix, "JAX_PLATFORMS": "cpu"}
        yield running
