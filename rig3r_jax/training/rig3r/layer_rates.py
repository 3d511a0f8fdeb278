"""Layer-wise learning-rate decay: the nearer to the images, the more slowly a layer moves.

Layer l of L learns at decay^(L - l) times the learning rate, as fine-tuning of BEiT (Bao et al. 2022, appendix) and MAE
(He et al. 2022, appendix A.1) after ELECTRA (Clark et al. 2020). The patch embedding is layer 0, blocks count on from 1
through encoder and decoder, and the heads are layer L, one more than there are blocks. A norm is of the block that it
follows, the decoder's, which the heads read, of theirs; what enters the decoder is of the decoder's first block.
"""

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.models.decoder import stage_ends
from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.training.optimizer import first_match


def layer_rates(model: Rig3R, params: PyTree, decay: float) -> PyTree:
    """Factors of the learning rate for a tree of the model's parameters, or of a part of them.

    Of blocks that are stacked along axis 0 an array of one factor each, (layers, 1, ..). ValueError for parameters that
    are of no layer.
    """
    last = _last_layer(model)

    def rates(first: int, leaf, stacked: bool) -> np.ndarray:
        layers = np.arange(leaf.shape[0]).reshape(-1, *(1,) * (leaf.ndim - 1)) if stacked else np.zeros(())
        return np.asarray(decay ** (last - first - layers), np.float32)

    return jax.tree.map(rates, first_match(_first_layers(model), params), params, first_match(_STACKED, params))


_STACKED = ((r"/block/", True), (r"", False))


def _first_layers(model: Rig3R) -> list[tuple[str, int]]:
    """(regex over names, layer of such a parameter, or of the first block of a stack)."""
    decoder = model.encoder_depth + 1
    starts = (0, *stage_ends(model.decoder_depth)[:-1])
    return [
        (r"^encoder/patch_embed/", 0),
        (r"^encoder/blocks/", 1),
        (r"^encoder/norm/", model.encoder_depth),
        (r"^(decoder_embed|rig_embedding)/", decoder),
        *((rf"^decoder/stage{stage}/", decoder + start) for stage, start in enumerate(starts)),
        (r"^(decoder/norm|point_head|pose_head|rig_head)/", _last_layer(model)),
    ]


def _last_layer(model: Rig3R) -> int:
    return model.encoder_depth + model.decoder_depth + 1
