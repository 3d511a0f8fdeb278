"""Arrays that many processes want whole are read in parts and put together without a changed bit."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from rig3r_jax.training import checkpoint_share
from rig3r_jax.training.checkpoint import Checkpoints
from tests import runs
from tests.faults import ranks
from tests.training import shared_reading


@pytest.mark.slow
def test_two_processes_read_each_byte_once_to_be_checked_and_once_to_be_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_share, "CHUNK_BYTES", shared_reading.CHUNK)
    checkpoints, state = Checkpoints(tmp_path, 1), jax.tree.map(jax.numpy.asarray, shared_reading.made_state())
    checkpoints.save(shared_reading.STEP, state, {"seed": 0, "next_sample": 56})
    checkpoints.wait()
    coordinator = ranks.free_coordinator()
    command = ("-m", "tests.training.shared_reading", tmp_path)
    readers = [runs.start(*command, str(rank), coordinator, JAX_NUM_CPU_DEVICES="1") for rank in range(2)]
    outputs = [runs.finish(reader).splitlines()[-1].split() for reader in readers]
    assert [position for position, _ in outputs] == ["56", "56"]
    saved = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert sum(int(read) for _, read in outputs) < 2.2 * saved  # 3 where each reads all


def test_parts_are_whole_chunks_along_the_axis_that_has_most():
    mesh = AbstractMesh((2, 1, 1), ("data", "fsdp", "frames"))
    kernel = jax.ShapeDtypeStruct((3, 64, 512), np.float32, sharding=NamedSharding(mesh, PartitionSpec()))

    def spec(chunk):
        storage = ocp.metadata.StorageMetadata(chunk_shape=chunk) if chunk else None
        saved = {"kernel": ocp.metadata.ArrayMetadata("", None, (3, 64, 512), None, np.float32, storage)}
        return checkpoint_share.parts({"kernel": kernel}, saved)["kernel"].sharding.spec

    assert spec((3, 8, 256)) == PartitionSpec(None, mesh.axis_names)  # 8 chunks along the second axis, 2 along the last
    assert spec((1, 64, 256)) == PartitionSpec(None, None, mesh.axis_names)  # two devices cannot share the first's 3
    assert spec((3, 24, 256)) == PartitionSpec(None, None, mesh.axis_names)  # halves are chunks
    assert spec((3, 64, 512)) == spec((1, 64, 512)) == spec(None) == PartitionSpec()
