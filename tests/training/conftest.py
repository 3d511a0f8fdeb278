"""The configs of the package, for tests of this folder."""

import importlib
from collections.abc import Callable

import pytest
from ml_collections import ConfigDict


@pytest.fixture
def config() -> Callable[[str], ConfigDict]:
    """config(name): a fresh config of rig3r_jax.configs."""
    return lambda name: importlib.import_module(f"rig3r_jax.configs.{name}").get_config()
