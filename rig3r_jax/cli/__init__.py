from rig3r_jax.cli.program import main as main
from rig3r_jax.cli.program import run_command as run_command
