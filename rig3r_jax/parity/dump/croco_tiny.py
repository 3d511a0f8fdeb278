"""CroCo's and DUSt3R's encoder against `models.vit`, its rotary embedding, and CroCo's decoder block."""

import functools
import re
from collections.abc import Iterator, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.models.attention import dense_attention
from rig3r_jax.models.layers import BlockOptions, Mlp, SelfAttention, layer_norm
from rig3r_jax.models.positions import grid_positions, grid_sincos, rotate_by_position
from rig3r_jax.models.vit import Encoder, patchify
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import called, cast, channels_first, channels_last, compare_files, parameter_shapes
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, Results
from rig3r_jax.weights.dust3r import encoder_table
from rig3r_jax.weights.engine import Table, convert, export, linear, norm, stacked_depth

_POSITION = {"rope100": "rope", "norope": "none", "cosine": "sincos"}  # case -> field of Encoder
_FIXED = {"mlp_ratio": 4, "qkv_bias": True, "ln_eps": 1e-6, "rope_freq": 100}  # what our encoder has no choice in


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Compares outputs.npz, rope.npz, many_ar.npz and decoder_block_io.npz, as far as they are there."""
    results_of = {
        "outputs.npz": (_outputs, ""),
        "rope.npz": (_rotary, ""),
        "many_ar.npz": (_portrait_and_landscape, "img"),
        "decoder_block_io.npz": (_decoder_block, "x"),
    }
    return compare_files(dump, results_of)


def _model(dump: Dump, dtype: np.dtype) -> tuple[Encoder, Table, dict]:
    """The encoder, without positions, its table and its parameters."""
    meta, tensors = dump.json("meta.json"), dump.tensors()
    other = [
        f"{key} = {meta[key]!r} (ours: {value!r})" for key, value in _FIXED.items() if meta.get(key, value) != value
    ]
    if other:
        raise ValueError(f"meta.json describes another encoder than ours: {'; '.join(other)}; write a dump of DUSt3R's")
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    block = BlockOptions(meta["heads"], dtype=dtype)
    encoder = Encoder(width, stacked_depth(tensors, "enc_blocks"), patch, block, "none")
    table = encoder_table(encoder.depth)
    image = jax.ShapeDtypeStruct((1, patch, patch, 3), dtype)
    params = convert(tensors, table, {"encoder": parameter_shapes(encoder.init, dtype, image)})
    return encoder, table, cast(params, dtype)


def _outputs(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """`<case>/...` per kind of positions; `block0/...` and `grad/...` are those of rope100."""
    encoder, table, params = _model(dump, dtype)
    images = channels_last(dump.needed("inputs.npz")["img"], dtype)
    rows, columns = (size // encoder.patch for size in images.shape[1:3])
    ours: Results = {"cosine/table": grid_sincos(rows, columns, encoder.width, dtype)}
    for case, position in _POSITION.items():
        prefixes = (f"{case}/", "block0/", "grad/") if position == "rope" else (f"{case}/",)
        if not any(name.startswith(prefixes) for name in theirs):
            continue
        run = jax.jit(functools.partial(encoder.clone(position=position).apply, capture_intermediates=True))
        tokens, state = run({"params": params["encoder"]}, images)
        captured = state["intermediates"]
        positions = grid_positions(rows, columns)
        ours |= {f"{case}/block{index}": x for index, x in enumerate(called(captured["blocks"]["block"]))}
        ours |= {
            f"{case}/patch_embed": called(captured["patch_embed"]),
            f"{case}/pos": np.broadcast_to(positions, (len(images), *positions.shape)),
            f"{case}/enc_norm": tokens,
        }
        if position == "none":
            ours[f"{case}/timm_forward_features"] = tokens
        if position == "rope":
            ours |= _inside_a_block(captured["blocks"]["block"], encoder.block.heads, positions)
            if "grad/proj" in theirs:
                proj = jnp.asarray(theirs["grad/proj"], dtype)
                ours |= _gradients(encoder.clone(position=position), table, params, images, proj)
    return ours


def _inside_a_block(captured: Mapping, heads: int, positions: np.ndarray) -> Results:
    """`block0/...`; q, k and v are (b heads n d)."""
    first = {name: called(captured[name])[0] for name in ("norm1", "mlp", "attn")}
    parts = [part[0] for part in called(captured["attn"]["qkv"])]
    q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in parts)
    q_rope, k_rope = (rotate_by_position(part, positions) for part in (q, k))
    tokens, depth = q.shape[1], q.shape[-1]
    identity = jnp.pad(jnp.eye(tokens, dtype=q.dtype), ((0, 0), (0, -tokens % depth)))
    weights = [  # values that show the probabilities, one head's width of them at a time
        dense_attention(q_rope, k_rope, jnp.broadcast_to(identity[:, None, start : start + depth], v.shape))
        for start in range(0, tokens, depth)
    ]
    weights = jnp.concatenate(weights, axis=-1)[..., :tokens]
    per_head = {"q": q, "k": k, "v": v, "q_rope": q_rope, "k_rope": k_rope, "attn_prob": weights}
    arrays = {name: jnp.swapaxes(array, 1, 2) for name, array in per_head.items()}
    arrays |= {"norm1": first["norm1"], "attn_out": first["attn"], "mlp_out": first["mlp"]}
    return {f"block0/{name}": array for name, array in arrays.items()}


def _gradients(encoder: Encoder, table: Table, params: Mapping, images: Array, proj: Array) -> Results:
    """`grad/...` of sum(tokens * proj), by the image and by their parameters' names."""

    def scalar(params, images):
        terms = encoder.apply({"params": params["encoder"]}, images) * proj
        return terms.sum(), jnp.abs(terms).sum()

    run = jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))
    (value, size), (by_params, by_images) = run(params, images)
    ours = dict(export(by_params, table))
    ours |= {"img": channels_first(by_images), "scalar": Ours(value, floor=float(size), note="of its terms' sizes")}
    return {f"grad/{name}": array for name, array in ours.items()}


def _rotary(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """`<case>[_f<base>]/out` of single rotations, and tables `{cos,sin}_D<width>_L<length>` of base 100."""
    ours: Results = {}
    for name in theirs:
        if match := re.fullmatch(r"(\w+?(?:_f(\d+))?)/out", name):
            case, base = match[1], float(match[2] or 100)
            if f"{case}/tokens" not in theirs or f"{case}/pos_yx" not in theirs:
                ours[name] = f"rope.npz has no {case}/tokens or {case}/pos_yx"
                continue
            heads = jnp.asarray(theirs[f"{case}/tokens"].swapaxes(1, 2), dtype)
            pairs = zip(heads, theirs[f"{case}/pos_yx"], strict=True)
            turned = [rotate_by_position(x[None], positions, base)[0] for x, positions in pairs]
            ours[name] = jnp.swapaxes(jnp.stack(turned), 1, 2)
        elif match := re.fullmatch(r"(cos|sin)_D(\d+)_L(\d+)", name):
            ours[name] = _rotary_table(match[1], int(match[2]), int(match[3]), dtype)
    return ours


def _rotary_table(kind: str, width: int, length: int, dtype: np.dtype) -> Array:
    """What the rotation makes of a head whose first half is (1, 0) pairs: cosines, then sines."""
    head = jnp.concatenate([jnp.ones(width // 2, dtype), jnp.zeros(3 * width // 2, dtype)])
    rows = np.stack([np.arange(length), np.zeros(length, int)], axis=-1)
    turned = rotate_by_position(jnp.broadcast_to(head, (1, length, 1, 2 * width)), rows)[0, :, 0]
    start = 0 if kind == "cos" else width // 2
    return jnp.tile(turned[:, start : start + width // 2], (1, 2))  # both of a pair turn by the same angle


def _portrait_and_landscape(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """Tokens and positions of images of which the upright ones are stored transposed."""
    encoder, _, params = _model(dump, dtype)
    embed = nn.Dense(encoder.width, dtype=dtype)
    tokens, positions = [], []
    for image, (height, width) in zip(theirs["img"], theirs["true_shape_hw"].tolist(), strict=True):
        upright = image.swapaxes(1, 2) if height > width else image
        patches = patchify(channels_last(upright, dtype)[None], encoder.patch)
        tokens.append(embed.apply({"params": params["encoder"]["patch_embed"]}, patches)[0])
        positions.append(grid_positions(height // encoder.patch, width // encoder.patch))
    return {"tokens": jnp.stack(tokens), "pos_yx": np.stack(positions)}


class DecoderBlock(nn.Module):
    """CroCo's: self-attention, attention to another image's tokens, MLP. Rig3R has none; its parts are ours."""

    heads: int
    hidden: int
    positions: np.ndarray  # (n, 2), of both images
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], y: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        attention = SelfAttention(BlockOptions(self.heads, dtype=self.dtype), self.positions, name="attn")
        x = x + attention(layer_norm("norm1", self.dtype)(x))
        y = layer_norm("norm_y", self.dtype)(y)
        x = x + self._cross_attention(layer_norm("norm2", self.dtype)(x), y)
        return x + Mlp(self.hidden, x.shape[-1], self.dtype, name="mlp")(layer_norm("norm3", self.dtype)(x))

    def _cross_attention(self, x: Float[Array, "b n d"], y: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        sources = {"projq": x, "projk": y, "projv": y}
        q, k, v = (
            nn.Dense(x.shape[-1], dtype=self.dtype, name=f"cross_{name}")(source).reshape(*x.shape[:2], self.heads, -1)
            for name, source in sources.items()
        )
        q, k = (rotate_by_position(part, self.positions) for part in (q, k))
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="cross_proj")(dense_attention(q, k, v).reshape(x.shape))


def _decoder_block(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    tensors = dump.tensors("decoder_block.safetensors")
    entries = [entry for name in ("norm1", "norm2", "norm3", "norm_y") for entry in norm(name, name)]
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        entries += linear(name, name.replace(".", "/"))
    for name in ("projq", "projk", "projv", "proj"):
        entries += linear(f"cross_attn.{name}", f"cross_{name}")
    heads, hidden = dump.json("meta.json")["heads"], len(tensors["mlp.fc1.bias"])
    blocks = [DecoderBlock(heads, hidden, positions, dtype) for positions in theirs["pos_yx"]]
    x, y = (jnp.asarray(theirs[name], dtype)[:, None] for name in ("x", "y"))  # one pair of images at a time
    params = cast(convert(tensors, Table(tuple(entries)), parameter_shapes(blocks[0].init, dtype, x[0], y[0])), dtype)
    return {
        "out": jnp.concatenate(
            [block.apply({"params": params}, *pair) for block, *pair in zip(blocks, x, y, strict=True)]
        )
    }
