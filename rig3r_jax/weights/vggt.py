"""The weights of the public VGGT, to and from `models.vggt.VGGT`."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rig3r_jax.models.aggregator import stage_ends
from rig3r_jax.models.camera_head import LOG_VARIANCE
from rig3r_jax.models.layers import Mlp
from rig3r_jax.models.vggt import VARIANTS, VGGT, build_vggt
from rig3r_jax.weights.convert import load_params
from rig3r_jax.weights.dinov2 import HEAD_WIDTH, encoder_entries
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
)

KIND = "vggt"
IGNORED = (r"track_head\..*", r"(.*\.)?mask_token")  # point tracking; a token that only DINOv2's own training uses
UNTOLD = ("encoder_heads", "camera_heads", "levels", "iterations")
LOG_VARIANCE_BRANCH = "camera_head.pose_log_var_branch."  # the public file lacks it
_LOG_VARIANCE = "camera_head/refinement/pose_log_var"  # its parameters
_HEADS = {"camera": "camera_head", "depth": "depth_head", "points": "point_head"}  # of `outputs`


def table(fields: Mapping) -> Table:
    """The mapping for a model of these fields."""
    entries = encoder_entries(
        "aggregator.patch_embed.",
        "aggregator/encoder",
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


def fields_from_shapes(tensors: Mapping[str, np.ndarray], **told) -> dict:
    """Fields of VGGT; those that a missing tensor would tell are as in the public model.

    Args:
        tensors: the weights file.
        **told: fields that no shape tells, where they are not as in the public model: encoder_heads (64 wide),
            camera_heads (as the aggregator), levels (by depth), iterations (4).

    Raises:
        ValueError: these are no weights of VGGT, `levels` must be told, or something else is.
    """
    if not set(told) <= set(UNTOLD):
        raise ValueError(f"told {', '.join(told)}: only {', '.join(UNTOLD)} are not in the shapes; leave the rest out")
    public = build_vggt()
    shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def usual(pattern: str, axis: int, otherwise: int) -> int:
        """The most frequent size: a single misshapen tensor shall not decide about all others."""
        sizes = (shape[axis] for name, shape in shapes.items() if len(shape) > axis and re.fullmatch(pattern, name))
        return _most_frequent(sizes, otherwise)

    def layers(prefix: str) -> int:
        """How many blocks have a tensor, of most tensors: a missing or an additional one does not count."""
        numbered = (match[1] for name in shapes if (match := re.fullmatch(prefix + r"\.\d+\.(.+)", name)))
        return _most_frequent(Counter(numbered).values(), 0)

    blocks, encoder, dense = r"aggregator\.\w+_blocks\.\d+", r"aggregator\.patch_embed", "(depth|point)_head"
    width = usual(rf"{blocks}\.norm1\.weight", 0, 0)
    if not width:
        raise ValueError("these are no weights of VGGT: no aggregator.frame_blocks; give the file of the whole model")
    heads = max(width // usual(rf"{blocks}\.attn\.q_norm\.weight", 0, HEAD_WIDTH), 1)
    depth = max(layers(rf"aggregator\.{kind}_blocks") for kind in ("frame", "global"))
    outputs = [output for output, head in _HEADS.items() if any(name.startswith(f"{head}.") for name in shapes)]
    fields = {
        "width": width,
        "depth": depth,
        "heads": heads,
        "encoder_depth": layers(rf"{encoder}\.blocks"),
        "encoder_heads": max(width // HEAD_WIDTH, 1),
        "camera_heads": heads,
        "trunk_depth": layers(r"camera_head\.trunk"),
        "iterations": public.iterations,
        "patch": usual(rf"{encoder}\.patch_embed\.proj\.weight", 2, public.patch),
        "registers": usual(r"aggregator\.register_token", 2, public.registers),
        "encoder_registers": usual(rf"{encoder}\.register_tokens", 1, public.encoder_registers),
        "position_grid": math.isqrt(usual(rf"{encoder}\.pos_embed", 1, 1 + public.position_grid**2) - 1),
        "dpt_features": usual(rf"{dense}\.scratch\.refinenet\d\.out_conv\.\w+", 0, public.dpt_features),
        "dpt_last": usual(rf"{dense}\.scratch\.output_conv2\.0\.\w+", 0, public.dpt_last),
        "dpt_widths": [usual(rf"{dense}\.projects\.{level}\.\w+", 0, public.dpt_widths[level]) for level in range(4)],
        "outputs": outputs,
        "log_variance": "camera" in outputs,
    }
    return fields | told | {"levels": list(told["levels"]) if "levels" in told else _levels(depth)}


def _most_frequent(numbers: Iterable[int], otherwise: int) -> int:
    return next(iter(Counter(numbers).most_common(1)), (otherwise, 0))[0]


def _levels(depth: int) -> list[int]:
    for variant in VARIANTS.values():
        if variant["depth"] == depth:
            return list(variant["levels"])
    raise ValueError(
        f"which layers of {depth} do the dense heads read? the shapes do not tell: say levels=(a, b, c, d)"
    )


def convert_tensors(tensors: Mapping[str, Float[np.ndarray, "..."]], **told) -> tuple[dict, dict[str, str]]:
    """Parameters of VGGT, and the metadata: the model's fields, and what is not from the file.

    The log-variance branch, where the file lacks it, gets the values of the model's initialisation. `told` is as for
    `fields_from_shapes`.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
    """
    fields = fields_from_shapes(tensors, **told)
    given = any(name.startswith(LOG_VARIANCE_BRANCH) for name in tensors)
    found = {**fields, "log_variance": fields["log_variance"] and given}
    params = convert(tensors, table(found), wanted(build(found)))
    metadata = {"fields": json.dumps(fields)}
    if fields["log_variance"] and not given:
        params["camera_head"]["refinement"]["pose_log_var"] = initial_log_variance(2 * fields["width"])
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
    """The model of a converted file and its parameters, put on the device one by one.

    Args:
        path: a file of ours of kind vggt.
        **others: as for `build`; the parameters of heads that `outputs` and `log_variance` leave out are not read.

    Raises:
        ValueError: the file is none of ours, or of another kind.
    """
    params, metadata = load_params(path)
    if metadata["kind"] != KIND:
        raise ValueError(f"{path} holds weights of {metadata['kind']}; give a file made by `rig3r convert vggt`")
    model = build(json.loads(metadata["fields"]), **others)
    needed = flatten(wanted(model))
    return model, nest({name: jnp.array(leaf) for name, leaf in flatten(params).items() if name in needed})


def initial_log_variance(width: int) -> dict:
    """The log-variance branch as the model initialises it, the same every time."""
    params = Mlp(width // 2, LOG_VARIANCE).init(jax.random.key(0), jnp.zeros((1, width)))["params"]
    return jax.tree.map(np.asarray, params)


def wanted(model: VGGT) -> dict:
    """Shapes and types of the model's parameters."""
    images = jax.ShapeDtypeStruct((1, 1, 2 * model.patch, 2 * model.patch, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]
