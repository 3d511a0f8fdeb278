"""Dense prediction head (Ranftl et al. 2021) in DUSt3R's form and in VGGT's, channels last."""

import typing

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.layers import layer_norm
from rig3r_jax.models.positions import sincos
from rig3r_jax.models.upsample import upsample_aligned


def uv_grid(
    height: int, width: int, aspect: float
) -> tuple[Float[np.ndarray, "{width}"], Float[np.ndarray, "{height}"]]:
    """u of the columns and v of the rows of a grid over an image of the given width / height, whose corners lie on the
    unit circle; cell centres (VGGT)."""
    diagonal = (aspect**2 + 1) ** 0.5

    def centers(count, span):
        return np.linspace(-span * (count - 1) / count, span * (count - 1) / count, count)

    return centers(width, aspect / diagonal), centers(height, 1 / diagonal)


def add_uv_embedding(x: Float[Array, "b h w c"], aspect: float, ratio: float = 0.1) -> Float[Array, "b h w c"]:
    """Adds VGGT's position embedding: the first half of the channels codes u, the second half v, times `ratio`."""
    precise = at_least_float32(x.dtype)
    codes = [
        ratio * sincos(jnp.asarray(axis, precise), x.shape[-1] // 2, max_period=100.0, dtype=precise)
        for axis in uv_grid(x.shape[1], x.shape[2], aspect)
    ]
    along_u, along_v = jnp.split(x, 2, axis=-1)
    parts = along_u + codes[0][None, None].astype(x.dtype), along_v + codes[1][None, :, None].astype(x.dtype)
    return jnp.concatenate(parts, axis=-1)


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu x))); `rectified_skip` adds relu(x) in place of x, as VGGT's in-place ReLU does."""

    features: int
    rectified_skip: bool
    dtype: typing.Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        rectified = nn.relu(x)
        out = nn.Conv(self.features, (3, 3), padding=1, dtype=self.dtype, name="conv1")(rectified)
        out = nn.Conv(self.features, (3, 3), padding=1, dtype=self.dtype, name="conv2")(nn.relu(out))
        return out + (rectified if self.rectified_skip else x)


class Fusion(nn.Module):
    """Adds the finer level to the coarser one, refines, resizes."""

    features: int
    rectified_skip: bool
    dtype: typing.Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], skip: Float[Array, "b h w c"] | None, height: int, width: int
    ) -> Float[Array, "b {height} {width} c"]:
        if skip is not None:
            x = x + ResidualUnit(self.features, self.rectified_skip, self.dtype, name="unit1")(skip)
        x = ResidualUnit(self.features, self.rectified_skip, self.dtype, name="unit2")(x)
        x = upsample_aligned(x, height, width)
        return nn.Conv(self.features, (1, 1), dtype=self.dtype, name="out_conv")(x)


class DPTHead(nn.Module):
    """Four token levels (of Rig3R: decoder input, L/2, 3L/4, L) to one raw value vector per pixel.

    VGGT's form differs from DUSt3R's: tokens are normalised, levels and the last map get position embeddings, a fusion
    resizes to the next level's size (DUSt3R doubles and crops), and residual units skip relu(x).
    """

    patch: int
    channels: int = 4
    features: int = 256
    last: int = 128
    level_widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    form: str = "dust3r"  # or "vggt"
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, levels: list[Float[Array, "b n _"]], rows: int, columns: int) -> Float[Array, "b h w c"]:
        """Raw maps of rows*patch x columns*patch pixels."""
        vggt, aspect = self.form == "vggt", columns / rows
        if vggt:
            norm = layer_norm("norm", self.dtype, 1e-5)  # one for all levels
            levels = [norm(tokens) for tokens in levels]
        maps = [
            self._resample(index, tokens.reshape(tokens.shape[0], rows, columns, -1), aspect)
            for index, tokens in enumerate(levels)
        ]
        maps = [
            nn.Conv(self.features, (3, 3), padding=1, use_bias=False, dtype=self.dtype, name=f"layer{index + 1}_rn")(x)
            for index, x in enumerate(maps)
        ]
        x, skip = maps[3], None
        for index in (3, 2, 1, 0):
            fusion = Fusion(self.features, vggt, self.dtype, name=f"fusion{index + 1}")
            height, width = 2 * x.shape[1], 2 * x.shape[2]
            if vggt and index:
                height, width = maps[index - 1].shape[1:3]
            x = fusion(x, skip, height, width)
            if index:
                skip = maps[index - 1]
                x = x[:, : skip.shape[1], : skip.shape[2]]  # doubled, an odd grid is one row or column too large
        x = nn.Conv(self.features // 2, (3, 3), padding=1, dtype=self.dtype, name="head1")(x)
        x = upsample_aligned(x, rows * self.patch, columns * self.patch)
        if vggt:
            x = add_uv_embedding(x, aspect)
        x = nn.relu(nn.Conv(self.last, (3, 3), padding=1, dtype=self.dtype, name="head2")(x))
        return nn.Conv(self.channels, (1, 1), dtype=at_least_float32(self.dtype), name="head3")(x)

    def _resample(self, level: int, x: Float[Array, "b h w _"], aspect: float) -> Float[Array, "b h2 w2 _"]:
        """Levels 0..3 at 4, 2, 1 and 1/2 times the patch grid."""
        width, prefix = self.level_widths[level], f"level{level + 1}"
        x = nn.Conv(width, (1, 1), dtype=self.dtype, name=f"{prefix}_project")(x)
        if self.form == "vggt":
            x = add_uv_embedding(x, aspect)
        if level < 2:
            factor = 4 >> level
            return nn.ConvTranspose(
                width, (factor, factor), (factor, factor), padding="VALID", dtype=self.dtype, name=f"{prefix}_resize"
            )(x)
        if level == 3:
            return HalvingConv(width, self.dtype, name=f"{prefix}_resize")(x)
        return x


class HalvingConv(nn.Module):
    """A 3x3 convolution with stride 2 and padding 1; parameters as `nn.Conv`.

    One product over gathered neighbourhoods: XLA's gradient of a strided convolution takes ten times as long on a CPU,
    and the map is too small for it to matter on a GPU.
    """

    features: int
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        channels, (height, width) = x.shape[-1], x.shape[1:3]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        rows, columns = (height + 1) // 2, (width + 1) // 2
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
        neighbours = [
            padded[:, row : row + 2 * rows - 1 : 2, column : column + 2 * columns - 1 : 2]
            for row in range(3)
            for column in range(3)
        ]
        product = jnp.concatenate(neighbours, axis=-1) @ kernel.reshape(-1, self.features).astype(self.dtype)
        return product + bias.astype(self.dtype)


def views_at_a_time(views: int, chunk: int) -> int:
    """The largest part of `views` that divides them and is at most `chunk`."""
    return max(size for size in range(1, min(chunk, views) + 1) if views % size == 0)


class ChunkedDPTHead(nn.Module):
    """A DPTHead over `chunk` views at a time, recomputed in the backward pass: it needs the memory of one chunk.

    The batch axis stays whole in every chunk, and the views of a chunk are evenly spaced over those of the sample, so
    that both can be cut over devices.
    """

    chunk: int
    head: dict[str, typing.Any]  # fields of DPTHead
    unroll: bool = False  # unroll the scan over chunks: on a CPU convolutions in a loop are several times slower

    @nn.compact
    def __call__(self, levels: list[Float[Array, "b v n _"]], rows: int, columns: int) -> Float[Array, "b v h w c"]:
        batch, views = levels[0].shape[:2]
        chunk = views_at_a_time(views, self.chunk)
        dpt = nn.remat(DPTHead, static_argnums=(2, 3), prevent_cse=False)(**self.head, name="dpt")

        def slices(level):  # (b, v, ...) -> (v / chunk, b * chunk, ...)
            parts = jnp.moveaxis(level.reshape(batch, chunk, views // chunk, *level.shape[2:]), 2, 0)
            return parts.reshape(views // chunk, batch * chunk, *level.shape[2:])

        scan = nn.scan(
            lambda module, _, part: (None, module(part, rows, columns)),
            variable_broadcast="params",
            split_rngs={"params": False},
            unroll=views // chunk if self.unroll else 1,
        )
        out = scan(dpt, None, [slices(level) for level in levels])[1]
        out = jnp.moveaxis(out.reshape(views // chunk, batch, chunk, *out.shape[2:]), 0, 2)
        return out.reshape(batch, views, *out.shape[3:])
