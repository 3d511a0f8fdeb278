"""Which process holds which rows of a batch."""

from unittest import mock

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from rig3r_jax.training import sharding


def _mesh(shape: tuple[int, int, int], per_process: int) -> mock.Mock:
    """A mesh over processes of `per_process` devices, in their order."""
    devices = [mock.Mock(process_index=number // per_process) for number in range(int(np.prod(shape)))]
    mesh = mock.Mock(spec=Mesh)
    mesh.devices, mesh.size = np.array(devices).reshape(shape), len(devices)
    mesh.shape = dict(zip(("data", "fsdp", "frames"), shape, strict=True))
    return mesh


@pytest.mark.parametrize(
    ("shape", "per_process", "shares", "leaders"),
    [
        ((8, 1, 1), 1, [(p, 8) for p in range(8)], range(8)),
        ((2, 4, 1), 4, [(0, 2), (1, 2)], range(2)),
        ((2, 1, 2), 1, [(0, 2), (0, 2), (1, 2), (1, 2)], (0, 2)),  # two processes share the images of a sample
        ((1, 1, 8), 4, [(0, 1), (0, 1)], (0,)),
        ((2, 2, 2), 4, [(0, 2), (1, 2)], range(2)),
    ],
)
def test_processes_share_the_rows_without_overlap_or_loss(monkeypatch, shape, per_process, shares, leaders):
    mesh = _mesh(shape, per_process)
    for process, expected in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert sharding.row_share(mesh) == expected
        assert sharding.leads_rows(mesh) == (process in leaders)


def test_mesh_that_cuts_a_process_across_samples_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    with pytest.raises(ValueError, match="make mesh.frames divide it or be a multiple of it"):
        sharding.row_share(_mesh((3, 1, 2), 4))


def test_mesh_wants_as_many_devices_as_it_has_places():
    with pytest.raises(ValueError, match="a mesh of 3 x 1 x 5 wants 15 devices, not 1"):
        sharding.make_mesh(3, 1, 5, jax.devices()[:1])
