"""Models that come with the package: NAME.safetensors in the folder `shipped`, beside its card, NAME.md.

`rig3r export WORKDIR rig3r_jax/weights/shipped/NAME.safetensors --card` ships another one.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"


def shipped_names() -> list[str]:
    """What `load` and --model take for them."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def located(path: str | Path) -> Path:
    """Where a model is: a path that exists, else the file of the shipped model of that name, else the path."""
    path = Path(path)
    return FOLDER / f"{path}.safetensors" if not path.exists() and str(path) in shipped_names() else path
