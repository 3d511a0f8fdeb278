"""Stands in for main.py in tests of what starts it: says what it was told, and behaves as --behave says.

It finds its rank in SLURM's environment or in --process-id, and its run (0, 1, ...) in SLURM_RESTART_COUNT.
"""

import os
import signal
import sys
import time

EXIT_INTERRUPTED, EXIT_STALLED = 75, 76


def main(arguments: list[str]) -> int:
    """Returns the exit code, where it comes to that."""
    told = dict(word.removeprefix("--").split("=", 1) for word in arguments if "=" in word)
    rank = int(told.get("process-id", os.environ.get("SLURM_PROCID", 0)))
    run = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    print(f"run {run} rank {rank} begins", *arguments, flush=True)
    behaviour = told.get("behave", "end")
    if behaviour == "environment":
        for name in sorted(os.environ):
            print(f"{name}={os.environ[name]}", flush=True)
    if behaviour == "interrupted" and run == 0:
        return until_signal()
    if behaviour == "one fails":  # the other waits for it in vain, as in a collective
        return 3 if rank else wait()
    if behaviour == "one stops":  # a watchdog tells
        if rank:
            os.kill(os.getpid(), signal.SIGSTOP)
            wait()
        time.sleep(1.0)
        print("stalled", file=sys.stderr, flush=True)
        return EXIT_STALLED
    return 0


def until_signal() -> int:
    """Waits for a signal; the state is saved then. Ranks take different times over it."""
    got = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda number, _: got.append(signal.Signals(number).name))
    print("running", flush=True)
    while not got:
        time.sleep(0.05)
    print(f"{got[0]}: saving", flush=True)
    time.sleep(0.3)
    return EXIT_INTERRUPTED


def wait() -> int:
    """Waits for what never comes."""
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
