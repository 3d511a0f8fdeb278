"""A trained head as a file: inside its VGGT, where people's code looks for it, or by itself beside a Rig3R."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from rig3r_jax.losses.pose_nll import NllOptions, variance_factor
from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import workdir_config
from rig3r_jax.uncertainty.backbone import VggtBackbone, open_backbone_of
from rig3r_jax.uncertainty.head import abstract_params
from rig3r_jax.uncertainty.kept_windows import metres_per_unit
from rig3r_jax.uncertainty.objective import nll_options
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import load_params, save_params
from rig3r_jax.weights.engine import flatten, nest

KIND = "pose_uncertainty"
BRANCH = "camera_head/refinement/pose_log_var"  # of VGGT


def save_head(workdir: str | Path, out: str | Path) -> str:
    """Writes the newest head of an uncertainty run.

    Over VGGT, and as log-variances: the whole backbone's file with the head as its log-variance branch, every other
    array as it was. Laws with heavier tails than a Gaussian's are told by the logarithm of their variance. Where the
    workdir has the windows that tell the length of its metres in VGGT's unit (metadata `metres_per_unit`), a
    reconstruction with that file has covariances. Else the head alone, for `load_head`.
    """
    config = workdir_config(Path(workdir))
    nll, backbone = nll_options(config), open_backbone_of(config, Path(workdir))
    params, step = restore_params(Path(workdir), abstract_params(backbone.width, nll))
    source = f"{Path(workdir).name}, step {step}"
    if isinstance(backbone, VggtBackbone) and nll.parameterisation == "log_variance":
        vggt_params, metadata = load_params(config.backbone.path)
        head = dict(flatten(params))
        head["fc2/bias"] = head["fc2/bias"] + np.float32(math.log(variance_factor(nll)))
        arrays = flatten(vggt_params) | {f"{BRANCH}/{name}": leaf for name, leaf in head.items()}
        fields = json.loads(metadata["fields"]) | {"log_variance": True}
        dtypes = {"dtypes": json.dumps(_backbone_dtypes(vggt_params, metadata))}
        metadata = {key: value for key, value in metadata.items() if key != "initialised"}
        more = {"fields": json.dumps(fields), "pose_log_var": f"{source}; log of the predictive variance"}
        if scale := metres_per_unit(config, Path(workdir), backbone.digest):
            more["metres_per_unit"] = repr(scale)
        save_params(out, nest(arrays), metadata | dtypes | more)
        return f"{workdir} -> {out}: {backbone.name} with the head of {source} as {BRANCH}"
    write_head(out, params, nll, source, backbone.digest)
    return f"{workdir} -> {out}: the head of {source}, for {backbone.name}"


def write_head(path: str | Path, params: PyTree, nll: NllOptions, source: str, backbone: str) -> None:
    """The head alone; `backbone` is the digest of the one whose errors it knows."""
    law = json.dumps(dataclasses.asdict(nll))
    save_params(path, params, {"kind": KIND, "source": source, "backbone": backbone, "nll": law})


def _backbone_dtypes(params: PyTree, metadata: dict[str, str]) -> dict[str, str]:
    """Types of the source's tensors that are not float32, without the head's: see weights.convert, `dtypes`."""
    dtypes = json.loads(metadata.get("dtypes", "{}"))
    by_name = dtypes if isinstance(dtypes, dict) else dict.fromkeys(vggt.export_tensors(params, metadata), dtypes)
    return {name: dtype for name, dtype in by_name.items() if not name.startswith(vggt.LOG_VARIANCE_BRANCH)}


def load_head(path: str | Path) -> tuple[PyTree, NllOptions]:
    """Parameters of a head that was written by itself, and how its numbers are read: see models.pose_uncertainty.

    ValueError for a file of another kind.
    """
    params, metadata = load_params(path)
    if metadata["kind"] != KIND:
        raise ValueError(
            f"{path} holds {metadata['kind']}, no pose uncertainty head; make one: rig3r export WORKDIR OUT"
        )
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(metadata["nll"]).items()}
    return params, NllOptions(**options)
