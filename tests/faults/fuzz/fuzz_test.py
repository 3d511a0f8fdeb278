"""Some damaged inputs for every reader; `make fuzz MINUTES=10` tries many more."""

import pytest

from tests.faults.fuzz.readers import readers
from tests.faults.fuzz.try_inputs import Corpus

READERS = readers()
INPUTS, SECONDS = 20, 1.0  # of each reader, at most


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named(name, tmp_path):
    tried = Corpus(name, READERS[name], tmp_path).try_inputs(0, INPUTS, SECONDS)
    assert tried.inputs and not tried.failures
