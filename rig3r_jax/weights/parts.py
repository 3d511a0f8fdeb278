"""Weights in parts: an index file (`model.safetensors.index.json`) names the part that holds each tensor."""

import re
from collections.abc import Callable
from pathlib import Path

from rig3r_jax.formats.json_file import read_json
from rig3r_jax.weights.pth import Weights

_SHOWN = 5


def read_parts(path: Path, read: Callable[[Path], Weights]) -> Weights:
    """All tensors of the parts that an index names, which lie beside it.

    Args:
        path: the index.
        read: of one part.

    Raises:
        ValueError: it is no index, parts are missing, or a part lacks a tensor; names them.
    """
    files = _parts(path)
    absent = sorted({file for file in files.values() if not (path.parent / file).is_file()})
    if absent:
        raise ValueError(f"{path}: its parts {_listed(absent)} are missing beside it; fetch them into {path.parent}")
    tensors, notes = {}, []
    for file in sorted(set(files.values())):
        part = read(path.parent / file)
        tensors |= part.tensors
        notes += part.notes
    if lacking := [name for name in files if name not in tensors]:
        raise ValueError(f"{path}: its parts lack {_listed(lacking)}; fetch index and parts of one version")
    return Weights(tensors, tuple(notes))


def lack_of_parts(path: Path) -> str:
    """What a file lacks that is itself one part of several, by its name; "" for any other."""
    part = re.search(r"^(.*)-0*(\d+)-of-0*(\d+)(\.\w+)$", path.name)
    if part is None or part[3] == "1":
        return ""
    return f"is part {part[2]} of {part[3]} of such weights; give their index, {part[1]}{part[4]}.index.json"


def _parts(path: Path) -> dict[str, str]:
    """Names of tensors to names of files."""
    content = read_json(path)
    files = content.get("weight_map") if isinstance(content, dict) else None
    plain = isinstance(files, dict)
    plain = plain and all(isinstance(file, str) and Path(file).name == file for file in files.values())
    if not files or not plain:
        raise ValueError(
            f"{path}: is JSON but no index of weights (weight_map: names of tensors to names of files beside it); give "
            "the .safetensors or PyTorch file itself"
        )
    return files


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
