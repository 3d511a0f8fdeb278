"""Every reader of files with a small valid corpus: a new one gets a line in one of the modules named here."""

import importlib

from tests.faults.fuzz.array_readers import array_readers
from tests.faults.fuzz.cloud_readers import cloud_readers
from tests.faults.fuzz.folder_readers import folder_readers, source_readers
from tests.faults.fuzz.image_readers import image_readers
from tests.faults.fuzz.reader import Reader
from tests.faults.fuzz.text_readers import text_readers
from tests.faults.fuzz.weight_readers import weight_readers

# What readers import when they are first used: imported before processes are forked, not in each of them.
_LATE = (
    "pyarrow.feather", "pyarrow.parquet", "yaml", "msgpack", "lazrs", "simplejpeg", "rig3r_jax.geometry.lenses",
    "rig3r_jax.geometry.depth",
)  # fmt: skip


def readers() -> dict[str, Reader]:
    """All of them by name; those of data sets begin with `source:`."""
    for module in _LATE:
        importlib.import_module(module)
    tables = array_readers, image_readers, cloud_readers, weight_readers, text_readers, folder_readers, source_readers
    return {name: reader for table in tables for name, reader in table().items()}
