"""Some damaged inputs for every reader; `make fuzz MINUTES=10` tries many more."""

import pytest

from tests.faults.fuzz.readers import readers
from tests.faults.fuzz.try_inputs import Corpus

# Inputs are read in forked children, in which ArrayRecord misses the threads that other tests of this process have made
# it start: its files are for `make fuzz` alone.
READERS = {name: reader for name, reader in readers().items() if name != "records"}
INPUTS, SECONDS = 20, 1.0  # of each reader, at most


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named(name, tmp_path):
    tried = Corpus(name, READERS[name], tmp_path).try_inputs(0, INPUTS, SECONDS)
    assert tried.inputs and not tried.failures
