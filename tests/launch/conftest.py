"""The SLURM on which tests marked slurm run their scripts."""

import sys

import pytest

from tests.launch.private_slurm import private_slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A private SLURM whose jobs run on CPU under this interpreter."""
    with private_slurm(tmp_path_factory.mktemp("slurm")) as running:
        running.environment |= {"RIG3R_VENV": sys.prefix, "JAX_PLATFORMS": "cpu"}
        yield running
