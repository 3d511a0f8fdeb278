"""Trains, evaluates and reports: python main.py --config=configs/demo.py [--workdir=W] [--config.a.b=value ...]

The same as `rig3r train`, in a clone of the repository.
"""

import sys

from rig3r_jax.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:], "main.py"))
