"""`rig3r bench checkpoint`: what saving a state takes, and what checksums add to saving and to restoring it.

A state of parameters and two moments in float32 is saved as a run does it. Its bytes are random, hence nearly as little
compressible as those of a trained model.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.benchmarks.result import Record, Row
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.checkpoint_sums import files_of, sums, verify
from rig3r_jax.training.state import TrainState

FULL_GB = 7.6  # the state of configs/full.py: 632 million parameters and two moments


def command(options: argparse.Namespace, rest: list[str]) -> int:
    """Prints each size as it is measured, then the table; writes the JSON."""
    settings = {"megabytes": list(options.megabytes), "repeats": options.repeats, "folder": options.folder}
    record = Record(options, options.name or "checkpoint", settings)
    with TemporaryDirectory(dir=options.folder or None, prefix="bench-checkpoint-") as folder:
        for megabytes in options.megabytes:
            record.add(measure(Path(folder) / str(megabytes), megabytes, options.repeats))
    largest = max(record.rows, key=lambda row: row["MB"])
    factor = FULL_GB * 1e3 / largest["MB"]
    scaled = {key: largest[key] * factor for key in ("checksums s", "verify s")}
    record.end(full_gigabytes=FULL_GB, scaled=scaled)
    print(
        f"\n{FULL_GB} GB (configs/full.py) on one process, in proportion to {largest['MB']:,.0f} MB: "
        f"{scaled['checksums s']:.0f} s of checksums in the thread of a save, {scaled['verify s']:.0f} s before a "
        "restore; of N processes each does an Nth"
    )
    return 0


def measure(folder: Path, megabytes: int, repeats: int) -> Row:
    """Medians over `repeats` saves of a state of that size.

    Returns:
        MB: of the files. blocked s: that `save` holds the training up. saved s: until the step is a checkpoint.
        checksums s: of that for checksums. verify s: every checksum compared, files in memory. restore s: without.
    """
    state = _state(megabytes)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    times = []
    for repeat in range(1, repeats + 1):
        checkpoints = Checkpoints(folder, keep=1)
        state = state.replace(step=jnp.int32(repeat))
        clock = [time.perf_counter()]
        checkpoints.save(repeat, state, {"seed": 0, "next_sample": repeat})
        clock.append(time.perf_counter())
        checkpoints.wait()
        step = checkpoints.folder / str(repeat)
        clock.append(time.perf_counter())
        names = files_of(step)
        sums(step, names)
        clock.append(time.perf_counter())
        verify(step)
        clock.append(time.perf_counter())
        jax.block_until_ready(checkpoints.restore(abstract)[0])
        clock.append(time.perf_counter())
        blocked, rest, checksums, verified, restored = np.diff(clock)
        times.append((blocked, blocked + rest, checksums, verified, restored - verified))
        checkpoints.close()
    blocked, saved, checksums, verified, restored = np.median(times, axis=0)
    size = sum((step / name).stat().st_size for name in names)
    return {
        "MB": size / 1e6,
        "files": len(names),
        "blocked s": blocked,
        "saved s": saved,
        "checksums s": checksums,
        "verify s": verified,
        "restore s": restored,
        "verify GB/s": size / 1e9 / verified,
    }


def _state(megabytes: int) -> TrainState:
    """Parameters and two moments in arrays of at most 16 MB, as those of a ViT-L's layers."""
    numbers = max(megabytes * 250_000 // 3, 1)
    sizes = [min(4_000_000, numbers - start) for start in range(0, numbers, 4_000_000)]
    keys = iter(jax.random.split(jax.random.key(0), 3 * len(sizes)))

    def arrays() -> dict[str, jax.Array]:
        return {f"layer_{n}": jax.random.normal(next(keys), (size,)) for n, size in enumerate(sizes)}

    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, arrays(), (arrays(), arrays()), {}, zero, zero)
