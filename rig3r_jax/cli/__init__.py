from rig3r_jax.cli.commands import main as main
