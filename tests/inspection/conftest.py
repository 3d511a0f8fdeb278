"""A rendered drive that is right in everything, and what its images show."""

import pytest

from rig3r_jax.data.sources import make_source
from rig3r_jax.inspection.claims import read_claims
from rig3r_jax.inspection.evidence import match_pairs

OPTIONS = {"train_worlds": 1, "image_size": 256, "steps": 6, "min_cameras": 5, "max_cameras": 5, "interval": 0.5}


@pytest.fixture(scope="session")
def drive():
    ((_, load),) = make_source("procedural", "", OPTIONS).scenes("train")
    return load()


@pytest.fixture(scope="session")
def matched(drive):
    return match_pairs(read_claims(drive, 6))
