"""Networks that run without the code of their models: StableHLO of one number and size of images, with parameters.

A folder of `NETWORK` (what `jax.export` serializes), `PARAMETERS` (a .safetensors, which the network takes as its first
argument), `MANIFEST` (what the arrays are and what their numbers mean) and a README with a loader of ten lines.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export

from rig3r_jax.formats.atomic import whole_path
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.inference.models.network import About, NetworkModel
from rig3r_jax.inference.models.readings import Arrays, from_json, to_json
from rig3r_jax.schema import Estimate, Views
from rig3r_jax.weights.engine import flatten, nest
from rig3r_jax.weights.files import read_tensors, write_tensors

FORMAT, VERSION = "rig3r-exported", 1
NETWORK, PARAMETERS, MANIFEST = "network.stablehlo", "parameters.safetensors", "model.json"
PLATFORMS = ("cpu", "cuda")
README = """# {name}

A network for {views} images of {height} x {width} pixels, exported by jax {jax} for {platforms}. It runs without the
code of its model:

```python
import jax
import numpy as np
from safetensors.numpy import load_file

with open("{network}", "rb") as file:
    network = jax.export.deserialize(bytearray(file.read()))
parameters = load_file("{parameters}")
inputs = dict(np.load("inputs.npz"))  # arrays of the names, shapes and types of {manifest}
outputs = jax.jit(network.call)(parameters, inputs)
```

`{manifest}` lists inputs and outputs. `rig3r reconstruct --model` takes this folder too.
{licence}"""


def write_exported(model: NetworkModel, out: str | Path, views: int, size: tuple[int, int]) -> str:
    """Writes the folder of a `portable` model, whole or not at all; returns a report.

    Raises:
        ValueError: the folder is there already, or the model does not see images of this size.
    """
    out = new_folder(out)
    if model.input_size([size]) != size:
        height, width = model.input_size([size])
        raise ValueError(
            f"--size {size[0]}x{size[1]}: {model.name} sees such images at {height}x{width} (height x width)"
        )
    shapes, flat = model.reading.shapes(views, size), flatten(model.program.params)

    def function(parameters: Arrays, inputs: Arrays) -> Arrays:
        return model.program.function(nest(parameters), inputs)

    abstract = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in flat.items()}
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(abstract, shapes)
    outputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.out_avals]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "about": dataclasses.asdict(dataclasses.replace(model.about, most_views=views)),
        "reading": to_json(model.reading),
        "views": views,
        "size": size,
        "inputs": _described(shapes),
        "outputs": _described(jax.tree.unflatten(exported.out_tree, outputs)),
    }
    texts = {"name": model.name, "views": views, "height": size[0], "width": size[1], "jax": jax.__version__}
    texts |= {"network": NETWORK, "parameters": PARAMETERS, "manifest": MANIFEST, "platforms": " and ".join(PLATFORMS)}
    texts["licence"] = f"\nLicence: {model.licence}.\n" if model.licence else ""
    with whole_path(out) as folder:
        folder.mkdir()
        (folder / NETWORK).write_bytes(exported.serialize())
        write_tensors(folder / PARAMETERS, flat)
        write_json(folder / MANIFEST, manifest)
        (folder / "README.md").write_text(README.format(**texts))
    megabytes = sum(leaf.nbytes for leaf in flat.values()) / 1e6
    return (
        f"{model.name} -> {out}: {views} images of {size[0]}x{size[1]} (height x width), for {texts['platforms']}, "
        f"{megabytes:,.0f} MB of parameters; its README.md shows how to run it"
    )


def new_folder(out: str | Path) -> Path:
    """The path; ValueError where something is there already."""
    if Path(out).exists():
        raise ValueError(f"{out}: exists already; give a new folder, or remove it first")
    return Path(out)


def load_exported(path: str | Path) -> "ExportedModel":
    """The network of a folder of `write_exported`; ValueError for a folder that is none or is damaged."""
    path = Path(path)
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{path / MANIFEST}: is of no network that this version reads ({FORMAT}, version {VERSION}); export it "
            "again: rig3r export --stablehlo"
        )
    try:
        about = About(**manifest["about"] | {"notes": tuple(manifest["about"]["notes"])})
        reading, views, size = from_json(manifest["reading"]), int(manifest["views"]), tuple(manifest["size"])
        exported = export.deserialize(bytearray((path / NETWORK).read_bytes()))
    except FileNotFoundError:
        raise ValueError(f"{path}: {NETWORK} is missing; export it again") from None
    except Exception as error:  # of flatbuffers any, where the file is cut
        raise ValueError(f"{path}: is damaged ({type(error).__name__}: {error}); export it again") from error
    platform = export.default_export_platform()
    if platform not in exported.platforms:
        raise ValueError(f"{path}: runs on {' and '.join(exported.platforms)}, not on {platform}; export it there")
    return ExportedModel(about, reading, exported, read_tensors(path / PARAMETERS), views, size)


class ExportedModel(NetworkModel):
    """See `protocol.Model`. A pass of fewer images than it takes is filled up with its last one."""

    def __init__(self, about: About, reading, exported: export.Exported, params: Arrays, views: int, size):
        super().__init__(about, reading, exported.call, params)
        self._views, self._size = views, size

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The only one."""
        return self._size

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """Of the number of images that it takes."""
        return super().peak_bytes(self._views, self._size)

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """See `Model`. ValueError for more images than it takes."""
        if len(views.images) > self._views:
            raise ValueError(f"{self.name} takes {self._views} images a pass, not {len(views.images)}; give fewer")
        return super().estimate(views, lenses, wide)

    def outputs(self, views: Views) -> Arrays:
        """See `NetworkModel`; of the images that there are."""
        count = len(views.images)
        rows = np.minimum(np.arange(self._views), count - 1)
        inputs = {name: values[rows] for name, values in self.reading.inputs(views).items()}
        if "frame_index" in inputs:  # all are different
            numbers = inputs["frame_index"]
            numbers[count:] = numbers[:count].max() + 1 + np.arange(self._views - count)
        return {name: values[:count] for name, values in self.program(inputs).items()}


def _described(arrays: Mapping[str, typing.Any]) -> dict[str, dict]:
    """Shapes and dtypes, of arrays or of what stands for them."""
    return {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
