"""The weights of the public VGGT, to and from `models.vggt.VGGT`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from numpy.typing import DTypeLike

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.aggregator import stage_ends
from rig3r_jax.models.camera_head import LOG_VARIANCE
from rig3r_jax.models.layers import Mlp
from rig3r_jax.models.vggt import VARIANTS, VGGT, build_vggt
from rig3r_jax.weights.convert import load_params
from rig3r_jax.weights.dinov2 import encoder_entries
from rig3r_jax.weights.engine import (
    CONV,
    CONV_TRANSPOSE,
    Entry,
    Table,
    block_entries,
    conv,
    convert,
    export,
    flatten,
    linear,
    nest,
    norm,
    squeezed,
    typed,
)
from rig3r_jax.weights.files import release
from rig3r_jax.weights.overlay import misfits, origins, overlay
from rig3r_jax.weights.sizes import HEAD_WIDTH, Sizes, head_count, positive_number

KIND = "vggt"
TYPICAL = r"aggregator\.(frame|global)_blocks\.\d+\..+"
IGNORED = (r"track_head\..*", r"(.*\.)?mask_token")  # point tracking; a token that only DINOv2's own training uses
UNTOLD = ("encoder_heads", "camera_heads", "levels", "iterations")
LOG_VARIANCE_BRANCH = "camera_head.pose_log_var_branch."  # the public file lacks it
_LOG_VARIANCE = "camera_head/refinement/pose_log_var"  # its parameters
_ENCODER = r"aggregator\.patch_embed"  # a regex of the image encoder's keys begins so
_ROOM = "aggregator/encoder"  # its parameters
PUBLIC = VARIANTS["1b"] | {
    name: getattr(VGGT, name)
    for name in (
        "trunk_depth", "iterations", "patch", "registers", "encoder_registers", "position_grid", "dpt_features",
        "dpt_last", "dpt_widths", "outputs",
    )
}  # fmt: skip
_HEADS = {"camera": "camera_head", "depth": "depth_head", "points": "point_head"}  # of `outputs`


def table(fields: Mapping) -> Table:
    """The mapping for a model of these fields."""
    entries = encoder_entries(
        "aggregator.patch_embed.",
        _ROOM,
        fields["encoder_depth"],
        registers=fields["encoder_registers"] > 0,
    )
    entries.append(Entry("aggregator.camera_token", "aggregator/camera_token", squeezed(1)))
    if fields["registers"]:
        entries.append(Entry("aggregator.register_token", "aggregator/register_tokens", squeezed(1)))
    start = 0
    for stage, end in enumerate(stage_ends(tuple(fields["levels"]), fields["depth"])):
        for layer in range(start, end):
            for kind in ("frame", "global"):
                source, target = f"aggregator.{kind}_blocks.{layer}", f"aggregator/stage{stage}/{kind}"
                entries += block_entries(source, target, layer - start, qk_norm=True, layer_scale=True)
        start = end
    if "camera" in fields["outputs"]:
        entries += _camera_entries(fields["trunk_depth"], fields["log_variance"])
    for output in ("depth", "points"):
        if output in fields["outputs"]:
            entries += _dense_entries(_HEADS[output])
    return Table(tuple(entries), ignored=IGNORED)


def _camera_entries(trunk_depth: int, log_variance: bool) -> list[Entry]:
    head, refinement = "camera_head", "camera_head/refinement"
    entries = [
        Entry(f"{head}.empty_pose_tokens", f"{head}/empty_pose", squeezed(2)),
        *norm(f"{head}.token_norm", f"{head}/token_norm"),
        *norm(f"{head}.trunk_norm", f"{refinement}/trunk_norm"),
        *linear(f"{head}.embed_pose", f"{refinement}/embed"),
        *linear(f"{head}.poseLN_modulation.1", f"{refinement}/modulation"),
    ]
    for index in range(trunk_depth):
        entries += block_entries(f"{head}.trunk.{index}", f"{refinement}/trunk/block", index, layer_scale=True)
    for branch in ("pose", "pose_log_var") if log_variance else ("pose",):
        for layer in ("fc1", "fc2"):
            entries += linear(f"{head}.{branch}_branch.{layer}", f"{refinement}/{branch}/{layer}")
    return entries


def _dense_entries(head: str) -> list[Entry]:
    """A DPT head with the names of Depth Anything, which VGGT took over."""
    source, target = f"{head}.scratch", f"{head}/dpt"
    entries = norm(f"{head}.norm", f"{target}/norm")
    for level in range(4):
        entries += conv(f"{head}.projects.{level}", f"{target}/level{level + 1}_project")
        entries += conv(f"{source}.layer{level + 1}_rn", f"{target}/layer{level + 1}_rn", bias=False)
        fusion = f"{target}/fusion{level + 1}"
        entries += conv(f"{source}.refinenet{level + 1}.out_conv", f"{fusion}/out_conv")
        for unit in (1, 2) if level < 3 else (2,):  # the coarsest level has nothing to add
            for layer in ("conv1", "conv2"):
                name = f"{source}.refinenet{level + 1}.resConfUnit{unit}.{layer}"
                entries += conv(name, f"{fusion}/unit{unit}/{layer}")
    for level, layout in {0: CONV_TRANSPOSE, 1: CONV_TRANSPOSE, 3: CONV}.items():  # level 2 keeps its size
        entries += conv(f"{head}.resize_layers.{level}", f"{target}/level{level + 1}_resize", layout=layout)
    entries += conv(f"{source}.output_conv1", f"{target}/head1")
    entries += conv(f"{source}.output_conv2.0", f"{target}/head2")
    return entries + conv(f"{source}.output_conv2.2", f"{target}/head3")


def fields_from_shapes(tensors: Mapping[str, np.ndarray], **stated) -> dict:
    """Fields of VGGT; those that a missing tensor would tell are as in the public model.

    A model of the public one's width and depth is the public one: what a single tensor tells is then not read from it.

    Args:
        tensors: the weights file.
        **stated: fields that no shape tells, where they are not as in the public model: encoder_heads (64 wide),
            camera_heads (as the aggregator), levels (by depth), iterations (4).

    Raises:
        ValueError: these are no weights of VGGT, or something must be told, or otherwise.
    """
    if not set(stated) <= set(UNTOLD):
        raise ValueError(
            f"told {', '.join(stated)}: only {', '.join(UNTOLD)} are not in the shapes; leave the rest out"
        )
    sizes = Sizes(tensors, "VGGT", TYPICAL)
    blocks, dense = r"aggregator\.\w+_blocks\.\d+", "(depth|point)_head"
    width = sizes.usual({rf"{blocks}\.norm\d\.\w+": 0}, PUBLIC["width"])
    heads = max(width // sizes.usual({rf"{blocks}\.attn\.[qk]_norm\.\w+": 0}, HEAD_WIDTH), 1)
    depth = max(sizes.layers(rf"aggregator\.{kind}_blocks\.", 0) for kind in ("frame", "global"))
    outputs = [output for output, head in _HEADS.items() if any(name.startswith(f"{head}.") for name in tensors)]
    public = (width, depth) == (PUBLIC["width"], PUBLIC["depth"])
    return {
        "width": width,
        "depth": depth,
        "heads": heads,
        "levels": _levels(stated.get("levels"), depth),
        "encoder_depth": sizes.layers(rf"{_ENCODER}\.blocks\.", PUBLIC["encoder_depth"]),
        "encoder_heads": head_count("encoder_heads", stated.get("encoder_heads"), width),
        "camera_heads": head_count("camera_heads", stated.get("camera_heads"), 2 * width, heads),
        "trunk_depth": sizes.layers(r"camera_head\.trunk\.", PUBLIC["trunk_depth"]),
        "iterations": positive_number("iterations", stated.get("iterations", PUBLIC["iterations"])),
        **_told_once(sizes, public),
        "dpt_features": sizes.usual({rf"{dense}\.scratch\.refinenet\d\.out_conv\.\w+": 0}, PUBLIC["dpt_features"]),
        "dpt_last": sizes.usual(
            {rf"{dense}\.scratch\.output_conv2\.0\.\w+": 0, rf"{dense}\.scratch\.output_conv2\.2\.weight": 1},
            PUBLIC["dpt_last"],
        ),
        "dpt_widths": [
            sizes.usual(
                {rf"{dense}\.projects\.{level}\.\w+": 0, rf"{dense}\.scratch\.layer{level + 1}_rn\.weight": 1}, width
            )
            for level, width in enumerate(PUBLIC["dpt_widths"])
        ],
        "outputs": outputs,
        "log_variance": "camera" in outputs,
    }


def _told_once(sizes: Sizes, public: bool) -> dict[str, int]:
    """The sizes that one tensor alone tells, which no other outvotes; those of the public model where it is one."""
    names = ("patch", "registers", "encoder_registers", "position_grid")
    if public:
        return {name: PUBLIC[name] for name in names}
    positions = sizes.usual({rf"{_ENCODER}\.pos_embed": 1}, 1 + PUBLIC["position_grid"] ** 2)
    numbers = (
        sizes.usual({rf"{_ENCODER}\.patch_embed\.proj\.weight": 2}, PUBLIC["patch"]),
        sizes.usual({r"aggregator\.register_token": 2}, PUBLIC["registers"]),
        sizes.usual({rf"{_ENCODER}\.register_tokens": 1}, PUBLIC["encoder_registers"]),
        max(math.isqrt(positions - 1), 1),
    )
    return dict(zip(names, numbers, strict=True))


def _levels(stated: Sequence[int] | None, depth: int) -> list[int]:
    if stated is not None:
        stage_ends(tuple(stated), depth)
        return list(stated)
    for variant in VARIANTS.values():
        if variant["depth"] == depth:
            return list(variant["levels"])
    raise ValueError(
        f"which layers of {depth} do the dense heads read? the shapes do not tell: say levels=a,b,c,d (numbers from 0)"
    )


def convert_tensors(
    tensors: Mapping[str, Float[np.ndarray, "..."]], *, dtype: DTypeLike = np.float32, **stated
) -> tuple[dict, dict[str, str]]:
    """Parameters of VGGT in a type, and the metadata: the model's fields, and what is not from the file.

    The log-variance branch, where the file lacks it, gets the values of the model's initialisation. `stated` is as for
    `fields_from_shapes`.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
        ValueError: what is stated does not fit.
    """
    fields = fields_from_shapes(tensors, **stated)
    has_branch = any(name.startswith(LOG_VARIANCE_BRANCH) for name in tensors)
    in_file = {**fields, "log_variance": fields["log_variance"] and has_branch}
    params = convert(tensors, table(in_file), typed(parameter_shapes(build(in_file)), dtype))
    metadata = {"fields": json.dumps(fields)}
    if fields["log_variance"] and not has_branch:
        branch = initial_log_variance(2 * fields["width"])
        params["camera_head"]["refinement"]["pose_log_var"] = jax.tree.map(lambda leaf: leaf.astype(dtype), branch)
        metadata["initialised"] = _LOG_VARIANCE
    return params, metadata


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`: the file's own tensors, without the names in IGNORED and what it lacked."""
    tensors = export(params, table(json.loads(metadata["fields"])))
    lacked = metadata.get("initialised") == _LOG_VARIANCE
    return {name: array for name, array in tensors.items() if not (lacked and name.startswith(LOG_VARIANCE_BRANCH))}


def build(fields: Mapping, **others) -> VGGT:
    """The model of converted weights; `others` are further arguments of `build_vggt`."""
    return build_vggt(variant="1b", **{**fields, **others})


def load(path: str | Path, **others) -> tuple[VGGT, dict]:
    """The model of a converted file and its parameters, put on the device one by one in the model's precision.

    Args:
        path: a file of ours of kind vggt.
        **others: as for `build`; the parameters of heads that `outputs` and `log_variance` leave out are not read.

    Raises:
        ValueError: the file is none of ours, or of another kind.
    """
    params, metadata = load_params(path)
    if metadata["kind"] != KIND:
        raise ValueError(f"{path} holds weights of {metadata['kind']}; give a file made by `rig3r convert vggt`")
    return placed(params, metadata, **others)


def placed(params: Mapping, metadata: Mapping[str, str], **others) -> tuple[VGGT, dict]:
    """As `load`, of what `load_params` or `convert_tensors` gave."""
    model = build(json.loads(metadata["fields"]), **others)
    needed, dtype = flatten(parameter_shapes(model)), at_least_float32(model.dtype)

    def put(leaf: np.ndarray) -> jax.Array:
        on_device = jnp.array(leaf, dtype)
        release(leaf)
        return on_device

    return model, nest({name: put(leaf) for name, leaf in flatten(params).items() if name in needed})


def initialise(params: PyTree, path: str | Path) -> tuple[PyTree, str]:
    """Lays the weights of a DINOv2 over the image encoder of a VGGT's freshly initialised parameters.

    Args:
        params: what `model.init` gave.
        path: a file made by `rig3r convert dinov2`. No shape tells its heads: they are in the report.

    Returns:
        The same with the whole encoder from the file, placed and typed as before; and a report of what came from where.

    Raises:
        ValueError: the file is of another kind or of another encoder, in its position grid or registers also; names
            every parameter that does not fit.
    """
    weights, metadata = load_params(path)
    if metadata["kind"] != "dinov2":
        raise ValueError(f"{path} holds weights of {metadata['kind']}; give a file made by `rig3r convert dinov2`")
    arrays, model = flatten(weights), flatten(params)
    problems = misfits(arrays, model)
    problems += [
        f"{name} {leaf.shape}: the file has no such parameter"
        for name, leaf in model.items()
        if name.startswith(f"{_ROOM}/") and name not in arrays
    ]
    fields = json.loads(metadata["fields"])
    if problems:
        sizes = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "timm")
        text = f"{path} (dinov2) does not fit this model's image encoder; it is of one with {sizes}"
        raise ValueError("\n    ".join([text, *problems]))
    report = f"{origins(path, metadata, arrays, model)}; made for encoder_heads={fields['encoder_heads']}"
    return overlay(params, arrays), report


def initial_log_variance(width: int) -> dict:
    """The log-variance branch as the model initialises it, the same every time."""
    params = Mlp(width // 2, LOG_VARIANCE).init(jax.random.key(0), jnp.zeros((1, width)))["params"]
    return jax.tree.map(np.asarray, params)


def parameter_shapes(model: VGGT) -> dict:
    """Shapes and types of the model's parameters."""
    images = jax.ShapeDtypeStruct((1, 1, 2 * model.patch, 2 * model.patch, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]
