"""Analytic floating-point operations of a step of Rig3R, for MFU."""

from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.training.trained import split


def forward_parts(model: Rig3R, views: int, height: int, width: int) -> dict[str, float]:
    """Operations (2 per multiply-add) of one forward pass over one sample, by part of the model.

    Products and convolutions count, as in MFU; elementwise work does not.
    """
    rows, columns = height // model.patch, width // model.patch
    inner, d = model.decoder_width or model.width, model.width
    patches, tokens = rows * columns, views * rows * columns  # of an image, of the sample
    per_token = {  # weights that every token meets
        "patch_embed": 3 * model.patch**2 * d,
        "encoder_linear": model.encoder_depth * 12 * d * d,  # qkv 3 d^2, proj d^2, MLP 8 d^2
        "decoder_embed": d * inner if inner != d else 0,
        "rig_embedding": 6 * inner,
        "decoder_linear": model.decoder_depth * 12 * inner * inner,
        "ray_heads": 2 * model.ray_hidden * (inner + 3 * model.rays_per_patch**2),
    }
    parts = {name: 2.0 * tokens * weights for name, weights in per_token.items()}
    parts["encoder_attention"] = model.encoder_depth * views * attention_flops(patches, d)
    parts["decoder_attention"] = model.decoder_depth * attention_flops(tokens, inner)
    if model.point_head == "linear":
        parts["point_head"] = 2.0 * tokens * inner * 4 * model.points_per_patch**2
    else:
        parts["point_head"] = views * _dpt_flops(model, inner, rows, columns)
    return parts


def attention_flops(tokens: int, width: int) -> float:
    """q k^T and p v of one layer over one sequence, all heads."""
    return 4.0 * tokens * tokens * width


def forward_flops(model: Rig3R, views: int, height: int, width: int) -> float:
    """Operations of one forward pass over one sample."""
    return sum(forward_parts(model, views, height, width).values())


def _dpt_flops(model: Rig3R, inner: int, rows: int, columns: int) -> float:
    """Convolutions of the DPT head for one image."""
    features, last, cells = model.dpt_features, model.dpt_last, rows * columns
    total = 0.0
    for width, scale in zip((96, 192, 384, 768), (4, 2, 1, 0.5), strict=True):
        area = cells * scale**2
        resize = {4: width * width * 16, 2: width * width * 4, 1: 0, 0.5: width * width * 9 / 4}[scale]
        units = 2 if scale == 0.5 else 4  # convolutions of the residual units; the coarsest level has one unit
        total += 2 * cells * (inner * width + resize) + 2 * area * 9 * width * features
        total += 2 * area * units * 9 * features**2 + 2 * 4 * area * features**2
    pixels = cells * model.patch**2
    total += 2 * (cells * 64) * 9 * features * features // 2
    return total + 2 * pixels * (9 * features // 2 * last + last * 4)


def train_flops(model: Rig3R, views: int, height: int, width: int, *, trains_encoder: bool = True) -> float:
    """Operations of forward and backward for one sample: three times the forward pass, without recomputation; of an
    encoder that is frozen as a whole the forward pass alone."""
    parts = forward_parts(model, views, height, width)
    once = 0.0 if trains_encoder else parts["patch_embed"] + parts["encoder_linear"] + parts["encoder_attention"]
    return 3.0 * sum(parts.values()) - 2.0 * once


def step_flops(config: ConfigDict, model: Rig3R, params: PyTree) -> float:
    """Operations of one step of a run of this config; of `params` the names count."""
    views, side = config.sampling.num_views, config.sampling.image_size
    trains_encoder = "encoder" in split(params, config.optimizer.frozen)[0]
    return config.train.batch_size * train_flops(model, views, side, side, trains_encoder=trains_encoder)
