"""One config a file, each with a get_config(): `--config=demo` names rig3r_jax/configs/demo.py."""
