"""Packages beside the core: which extra of pyproject.toml brings them, and how a missing one is reported."""

import importlib.util
from collections.abc import Sequence

EXTRAS = {  # their packages, as they are imported
    "train": ("array_record", "clu", "grain", "tensorboard", "tensorflow_datasets", "tqdm"),
    "train-tf": ("tensorflow",),
    "data": ("DracoPy", "laspy", "lazrs", "msgpack", "OpenEXR", "pyarrow", "pycolmap", "yaml"),
    "export": ("pxr", "trimesh"),
    "rerun": ("rerun",),
    "video": ("av",),
    "view": ("viser",),
    "torch": ("torch",),
    "flash": ("dew_flash_attn",),
    "tokamax": ("tokamax",),
    "cuda13": ("jax_cuda13_plugin",),
}


def lack_of(packages: Sequence[str]) -> str:
    """What is missing of some packages and how to install it, to follow the name of what needs them; "" where nothing
    is. Imports none of them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    extras = [extra for extra, members in EXTRAS.items() if set(members) & set(missing)]
    others = [name for name in missing if name not in sum(EXTRAS.values(), ())]
    remedy = " ".join([*(f"'rig3r_jax[{extra}]'" for extra in extras), *others])
    clone = f"   (in a clone: sh launch/setup.sh {','.join(extras)})" if extras and not others else ""
    return f"needs {', '.join(missing)}: pip install {remedy}{clone}"


def packages_beside(module: str) -> Sequence[str]:
    """All that the extra of a module brings; none for a module of no extra."""
    package = module.partition(".")[0]
    return next((members for members in EXTRAS.values() if package in members), ())
