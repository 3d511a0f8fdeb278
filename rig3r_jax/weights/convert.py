"""Weight files of others into files of ours and back: `rig3r convert` and `rig3r export-torch`.

A file of ours is a .safetensors whose tensors are named by Flax paths. Its metadata: `format`, `version`, `kind` (a key
of KINDS, or "rig3r"), `source` (the file it was made from), and, as JSON, `fields` (of the model whose parameters these
are) and `requires` (fields of Rig3R's config without which the weights mean nothing); `initialised` names parameters
that the source lacks and the model's initialisation gave; `dtypes`, JSON, is the source's type where it is not float32:
one for all tensors, or {PyTorch's name: type} of those that differ; `names`, JSON, is what `dinov2_names` needs
to give them back. Parameters are float32, float64 where a source is.
"""

import contextlib
import importlib
import json
import re
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.extras import EXTRAS, lack_of
from rig3r_jax.formats.atomic import whole_file
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.engine import ConversionError, export, flatten, nest
from rig3r_jax.weights.files import read_metadata, read_tensors, read_weights, write_tensors
from rig3r_jax.weights.names import part_of
from rig3r_jax.weights.parts import lack_of_parts
from rig3r_jax.weights.pth import Weights
from rig3r_jax.weights.sizes import unlike_public

FORMAT, VERSION = "rig3r-weights", "1"

# kind -> module below rig3r_jax.weights with `convert_tensors`, `export_tensors`, UNTOLD: the fields that no shape
# tells, arguments of `convert_tensors`, TYPICAL: a regex of keys that such weights surely have, and PUBLIC: the fields
# of the public model
OWN_KINDS = ("rig3r", "pose_uncertainty")  # of what was trained here
KINDS = {"dust3r": "dust3r", "dinov2": "dinov2", "vggt": "vggt", "open-rig3r": "open_rig3r"}


def convert_file(kind: str, file: str | Path, out: str | Path, settings: Sequence[str] = ()) -> str:
    """Converts a PyTorch file of a kind to a file of ours; returns a report of what became of its tensors.

    Args:
        kind: a key of KINDS.
        file: .safetensors, a PyTorch checkpoint of any suffix, or the index of weights in parts.
        out: the .safetensors file to write.
        settings: `key=value` for what cannot be inferred from tensor shapes, where it is not as in the public model,
            such as `heads=12`.

    Raises:
        ValueError: unknown kind or key, unreadable file, or tensors that do not fit, all of them named.
    """
    file, out = Path(file), Path(out)
    module = _module(kind)
    _check_place(out, (".safetensors",))
    weights, tensors, prefix, outside = _read_kind(kind, file)
    params, metadata = _converted(kind, file, tensors, settings)
    named = module.export_tensors(params, metadata)
    metadata |= {"kind": kind, "source": file.name, **_dtypes({name: tensors[name] for name in named})}
    save_params(out, params, metadata)
    notes = [*weights.notes, *([f"weights taken below {prefix!r}"] if prefix else [])]
    others = [*outside, *(name for name in tensors if name not in named)]
    return _report(file, out, notes, len(weights.tensors), params, metadata, others)


def convert_in_memory(kind: str, file: str | Path) -> tuple[dict, dict[str, str]]:
    """Parameters and metadata of a PyTorch file of a kind, as `convert_file` writes them; raises what that raises."""
    _, tensors, _, _ = _read_kind(kind, Path(file))
    params, metadata = _converted(kind, Path(file), tensors, ())
    return params, metadata | {"kind": kind, "source": Path(file).name}


def _read_kind(kind: str, file: Path) -> tuple[Weights, dict[str, np.ndarray], str, list[str]]:
    """All of a file, and of it the part of a kind: tensors, the prefix of their names, names of the rest."""
    weights = read_weights(file)
    with _naming(file):
        return weights, *part_of(weights.tensors, _module(kind).TYPICAL)


def _converted(kind: str, file: Path, tensors: Mapping, settings: Sequence[str]) -> tuple[dict, dict[str, str]]:
    dtype = np.float64 if any(tensor.dtype == np.float64 for tensor in tensors.values()) else np.float32
    with _naming(file):
        return _module(kind).convert_tensors(tensors, dtype=dtype, **_parse(kind, settings))


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{file}: {lack_of_parts(file) or error}") from None


def _report(
    file: Path, out: Path, notes: list[str], count: int, params: Mapping, metadata: Mapping, others: list[str]
) -> str:
    """What became of the `count` tensors of a file; `others` are left out."""
    kind, fields = metadata["kind"], json.loads(metadata["fields"])
    ignored, leaves = _families(others), list(flatten(params).values())
    lines = [
        f"{file.name} ({kind}) -> {out}",
        f"tensors: {count} read, {count - len(others)} kept, {len(others)} left out by name",
        *(f"  {note}" for note in notes),
        *(f"  left out: {count:5d}  {family}" for family, count in ignored.items()),
        f"parameters: {len(leaves)} arrays, {sum(leaf.size for leaf in leaves):,} numbers of {leaves[0].dtype}",
        *([f"  initialised, not in the file: {metadata['initialised']}"] if "initialised" in metadata else []),
        f"model fields: {metadata['fields']}",
        f"  not inferred from tensor shapes: {', '.join(_module(kind).UNTOLD)}; give key=value where one differs",
        *(f"  unlike the public model: {difference}" for difference in unlike_public(fields, _module(kind).PUBLIC)),
    ]
    return "\n".join(lines)


def _check_place(out: Path, suffixes: Sequence[str]) -> None:
    """Refuses a file's name before there is work to lose."""
    if out.suffix.lower() not in suffixes:
        raise ValueError(f"{out}: such weights are written as {' or '.join(suffixes)}; give such a name")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}; make it, or mend the path")


def _dtypes(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Metadata `dtypes`; none where all tensors are float32."""
    others = {name: tensor.dtype.name for name, tensor in tensors.items() if tensor.dtype != np.float32}
    alike = len(others) == len(tensors) and len(set(others.values())) == 1
    return {"dtypes": json.dumps(next(iter(others.values())) if alike else others)} if others else {}


def _as_in_source(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors in the types of the file that they come from, which hold their values exactly."""
    dtypes = json.loads(metadata.get("dtypes", "{}"))
    return {
        name: tensor.astype(dtypes if isinstance(dtypes, str) else dtypes.get(name, "float32"), copy=False)
        for name, tensor in tensors.items()
    }


def _parse(kind: str, settings: Sequence[str]) -> dict[str, int | tuple[int, ...]]:
    """`heads=12` and `levels=4,11,17,23` as arguments of a kind's `convert_tensors`."""
    keys, public, arguments = _module(kind).UNTOLD, _module(kind).PUBLIC, {}
    for item in settings:
        key, _, value = item.partition("=")
        if key not in keys or not re.fullmatch(r"\d+(,\d+)*", value):
            raise ValueError(
                f"{item!r}: what can be told about {kind} weights is {', '.join(keys)}, as key=number or key=a,b,c"
            )
        numbers = tuple(int(number) for number in value.split(","))
        several = isinstance(public[key], tuple)
        if len(numbers) > 1 and not several:
            raise ValueError(f"{key} is {value}; it must be one number: say {key}=number")
        arguments[key] = numbers if several else numbers[0]
    return arguments


def export_torch(source: str | Path, out: str | Path) -> str:
    """Writes a file of ours under PyTorch's names, bit for bit what was read; returns a report.

    A converted file gets its original names and types back. One of Rig3R gets the names of the plain PyTorch twin.

    Args:
        source: file of ours.
        out: a .safetensors, or a .pth where PyTorch is installed.
    """
    params, metadata = load_params(source)
    if metadata["kind"] == "rig3r":
        tensors = export(params, rig3r.table(params))
    else:
        tensors = _as_in_source(_module(metadata["kind"]).export_tensors(params, metadata), metadata)
    write_torch(out, tensors)
    return f"{Path(source).name} ({metadata['kind']}) -> {out}: {len(tensors)} tensors under PyTorch's names"


def write_torch(out: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as .safetensors, or as .pth by PyTorch."""
    out = Path(out)
    _check_place(out, (".safetensors", ".pth", ".pt"))
    if out.suffix.lower() == ".safetensors":
        write_tensors(out, tensors, {"format": "pt"})
        return
    if lack := lack_of(EXTRAS["torch"]):
        raise ValueError(
            f"{out} {lack}; or take {out.with_suffix('.safetensors').name}, which PyTorch reads by "
            "safetensors.torch.load_file"
        )
    import torch

    state = {}
    for name, array in tensors.items():
        array = np.require(array, requirements=("C", "W", "O"))
        if array.dtype.name == "bfloat16":  # unknown to torch.from_numpy
            state[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            state[name] = torch.from_numpy(array)
    with whole_file(out) as file:
        torch.save(state, file)


def save_params(path: str | Path, params: Mapping, metadata: Mapping[str, str]) -> None:
    """Writes a tree of parameters as a file of ours; `metadata` names its `kind`."""
    assert "kind" in metadata, "a file of ours says what it holds"
    _check_place(Path(path), (".safetensors",))
    write_tensors(path, flatten(params), {**metadata, "format": FORMAT, "version": VERSION})


def load_params(path: str | Path) -> tuple[dict, dict[str, str]]:
    """The parameters of a file of ours as a nested tree of memory-mapped arrays, and its metadata."""
    metadata = load_metadata(path)
    return nest(read_tensors(path)), metadata


def load_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a file of ours.

    Raises:
        ValueError: it is no file of ours, or one of a later version; says what to do.
    """
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no converted weights file; make one: rig3r convert {{{','.join(KINDS)}}} {path} "
            f"{Path(path).stem}_converted.safetensors"
        )
    if metadata.get("version") != VERSION or metadata.get("kind") not in (*KINDS, *OWN_KINDS):
        raise ValueError(
            f"{path}: kind {metadata.get('kind')!r} in version {metadata.get('version')!r} of the format is not known "
            f"here (version {VERSION}: {', '.join([*KINDS, *OWN_KINDS])}); update the package or convert the file again"
        )
    return metadata


def _module(kind: str) -> types.ModuleType:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not known; weights are converted from {', '.join(KINDS)}")
    return importlib.import_module(f"rig3r_jax.weights.{KINDS[kind]}")


def _families(names: Sequence[str]) -> dict[str, int]:
    """Names counted by their first part, `dec_blocks`; one that is alone there by its whole name."""
    firsts = [name.split(".")[0] for name in names]
    counts = Counter(firsts)
    return {first if counts[first] > 1 else name: counts[first] for name, first in zip(names, firsts, strict=True)}
