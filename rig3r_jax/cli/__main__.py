"""`python -m rig3r_jax.cli`, the same as `rig3r`."""

import sys

from rig3r_jax.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
