"""One of two processes that restore a checkpoint whole; prints how many bytes it has read: FOLDER RANK COORDINATOR."""

import sys
from pathlib import Path

import jax
import numpy as np

from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.processes import Processes, join
from rig3r_jax.training.sharding import make_mesh, with_shardings
from rig3r_jax.training.state import TrainState

STEP, CHUNK = 7, 2**16  # bytes; the kernel has 48 chunks


def made_state() -> TrainState:
    """What the checkpoint holds: numpy arrays, among them numbers that a sum of processes' parts would change."""
    kernel = np.random.default_rng(0).standard_normal((3, 512, 512)).astype(np.float32)
    kernel.flat[::7], kernel.flat[5] = -0.0, np.nan
    zero = np.int32(0)
    return TrainState(np.int32(STEP), {"kernel": kernel, "bias": np.arange(5, dtype=np.float32)}, (), {}, zero, zero)


def bytes_read() -> int:
    """By this process, from files, since it began."""
    return int(Path("/proc/self/io").read_text().split()[1])


def main(folder: str, rank: str, coordinator: str) -> None:
    join(Processes(coordinator, 2, int(rank)))
    state = made_state()
    abstract = with_shardings(make_mesh(jax.device_count(), 1), state)
    checkpoints = Checkpoints(Path(folder), 1)
    before = bytes_read()
    restored, position = checkpoints.restore(abstract)
    read = bytes_read() - before
    for ours, expected, asked in zip(*map(jax.tree.leaves, (restored, state, abstract)), strict=True):
        assert ours.sharding == asked.sharding and np.asarray(ours).tobytes() == np.asarray(expected).tobytes()
    print(f"{position['next_sample']} {read}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
