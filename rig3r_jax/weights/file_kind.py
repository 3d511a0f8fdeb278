"""What a file of weights is, by its content: names and suffixes are what people and browsers made of them."""

import re
from pathlib import Path

from rig3r_jax.formats.foreign import HEAD, describe
from rig3r_jax.weights.unpickle import RESAVE

SAFETENSORS, PYTORCH, INDEX = "safetensors", "pytorch", "index"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".index.json")
_JSON_OBJECT = rb"(\xef\xbb\xbf)?\s*\{|\xff\xfe(\s\0)*\{\0|\xfe\xff(\0\s)*\0\{"  # in UTF-8 or UTF-16 with its mark
_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the magic number with which torch.save began before 1.6
_LEGACY_TAR = (b"sys_info", b"pickle", b"storages", b"tensors", b"./sys_info", b"./pickle", b"./storages", b"./tensors")


def weights_kind(path: Path) -> str:
    """SAFETENSORS, PYTORCH or INDEX.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind; says which, and what to do.
    """
    if path.is_dir():
        listed = sorted(entry.name for entry in path.iterdir() if entry.name.lower().endswith(_WEIGHTS))
        inside = f"one of {', '.join(listed[:10])}" if listed else "rig3r export makes one of a run"
        raise ValueError(f"{path} is a folder; give a weights file: {inside}")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; give the path of a weights file")
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return PYTORCH
    if head[8:9] == b"{":
        return SAFETENSORS
    if re.match(_JSON_OBJECT, head):
        return INDEX
    if head.startswith(_LEGACY):
        raise ValueError(f"{path}: is of PyTorch's format before 1.6 (2020); {RESAVE}")
    if head[257:262] == b"ustar" and head[:100].rstrip(b"\0") in _LEGACY_TAR:
        raise ValueError(f"{path}: is a tar archive, PyTorch's format before 0.2 (2017); {RESAVE}")
    raise ValueError(f"{path}: {describe(head)}; weights come as .safetensors or as a PyTorch checkpoint")
