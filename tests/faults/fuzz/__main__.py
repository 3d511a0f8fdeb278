"""`python -m tests.faults.fuzz --minutes 10`: damaged inputs for every reader, turn by turn; prints how many each had.

--readers WORD... picks those whose names hold a word; --seed N begins elsewhere; --show READER SEED FOLDER writes one
input to a folder and reads it, with its traceback. Exit code 1 where a rule was broken.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.fuzz.readers import readers
from tests.faults.fuzz.try_inputs import Corpus, Tried

_TURN = 2.0  # seconds of one reader at a time


def main() -> int:
    """Runs until the time is over; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--readers", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", nargs=3, metavar=("READER", "SEED", "FOLDER"))
    options = parser.parse_args()
    table = readers()
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files of some kB, written over and over
    folder = Path(tempfile.mkdtemp(prefix="rig3r-fuzz-", dir=in_memory))
    try:
        if options.show:
            name, seed, out = options.show
            print(table[name].read(Corpus(name, table[name], folder).write(int(seed), Path(out))))
            return 0
        words = options.readers or [""]
        chosen = {name: reader for name, reader in table.items() if any(word in name for word in words)}
        return _run(chosen, folder, options.minutes, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(chosen: dict, folder: Path, minutes: float, seed: int) -> int:
    corpora = [Corpus(name, reader, folder / str(number)) for number, (name, reader) in enumerate(chosen.items())]
    tried = {corpus.name: Tried() for corpus in corpora}
    seen: set[tuple[str, str]] = set()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for corpus in corpora:
            total = tried[corpus.name]
            turn = corpus.try_inputs(seed + total.inputs, 10**9, min(_TURN, end - time.monotonic()))
            total.inputs += turn.inputs
            total.refused += turn.refused
            total.seconds += turn.seconds
            for failure in turn.failures:
                kind = failure.reason.rpartition(" < ")[2] if " < " in failure.reason else failure.reason[:60]
                if (corpus.name, kind) not in seen:
                    seen.add((corpus.name, kind))
                    total.failures.append(failure)
                    print(f"{failure.reader}, seed {failure.seed}, {failure.file}: {failure.reason[:600]}", flush=True)
    print(f"{'reader':26} {'inputs':>8} {'refused':>8} {'kinds of failure':>17} {'seconds':>8}")
    for name, total in tried.items():
        print(f"{name:26} {total.inputs:8} {total.refused:8} {len(total.failures):17} {total.seconds:8.0f}")
    inputs, seconds = (sum(getattr(total, key) for total in tried.values()) for key in ("inputs", "seconds"))
    print(f"{'all':26} {inputs:8} {'':8} {len(seen):17} {seconds:8.0f}")
    return int(bool(seen))


if __name__ == "__main__":
    sys.exit(main())
