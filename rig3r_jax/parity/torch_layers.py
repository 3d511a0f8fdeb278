"""Position codes and the transformer block in plain PyTorch: eager, the whole attention matrix at once."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

EPSILON = 1e-6  # of every LayerNorm


def sincos(values: Num[Tensor, "*b"], width: int, dtype: torch.dtype) -> Float[Tensor, "*b {width}"]:
    """Sines, then cosines, of the angles value * 10000^(-i / (width / 2))."""
    exponents = np.arange(width // 2) / (width // 2)
    frequencies = torch.as_tensor(10_000.0**-exponents, dtype=dtype, device=values.device)
    angles = values.to(dtype).unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def patch_positions(rows: int, columns: int, device: torch.device | None = None) -> Num[Tensor, "n 2"]:
    """(row, column) of every patch, row-major."""
    return torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))


def grid_sincos(
    rows: int, columns: int, width: int, dtype: torch.dtype, device: torch.device | None = None
) -> Float[Tensor, "n {width}"]:
    """2-D position code: the code of the column, then the code of the row."""
    row, column = patch_positions(rows, columns, device).T
    return torch.cat([sincos(column, width // 2, dtype), sincos(row, width // 2, dtype)], dim=-1)


def rotate(heads: Float[Tensor, "b k n d"], positions: Num[Tensor, "n 2"]) -> Float[Tensor, "b k n d"]:
    """2-D RoPE of base 100: channels i and i + d/4 of a half are one complex number, turned by position * frequency.

    The first half of a head turns by the row, the second half by the column.
    """
    quarter = heads.shape[-1] // 4
    frequencies = 100.0 ** -(torch.arange(quarter, dtype=torch.float64, device=heads.device) / quarter)
    turned = []
    for axis, half in enumerate(heads.chunk(2, dim=-1)):
        angles = (positions[:, axis, None] * frequencies).to(heads.dtype)
        numbers = torch.complex(*half.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
        turned += [numbers.real, numbers.imag]
    return torch.cat(turned, dim=-1)


def patchify(images: Float[Tensor, "b h w c"], patch: int) -> Float[Tensor, "b n p"]:
    """Row-major patches; inside a patch row, column, channel."""
    windows = images.unfold(1, patch, patch).unfold(2, patch, patch)  # b, rows, columns, c, patch, patch
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)


def unpatchify(tokens: Float[Tensor, "b v n p"], rows: int, columns: int, channels: int) -> Float[Tensor, "b v h w c"]:
    """One map per view from its row-major patches."""
    side = round((tokens.shape[-1] / channels) ** 0.5)
    maps = tokens.unflatten(2, (rows, columns)).unflatten(-1, (side, side, channels))
    return maps.transpose(3, 4).flatten(2, 3).flatten(3, 4)


def plain_attention(
    q: Float[Tensor, "b k n d"], k: Float[Tensor, "b k n d"], v: Float[Tensor, "b k n d"]
) -> Float[Tensor, "b k n d"]:
    """softmax(q k^T / sqrt(d)) v."""
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention; the rows of `qkv` are q, then k, then v, each head-major."""

    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = staticmethod(plain_attention)

    def __init__(self, width: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = nn.LayerNorm(width // heads, eps=EPSILON) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads, eps=EPSILON) if qk_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "b n d"], positions: Num[Tensor, "n 2"] | None) -> Float[Tensor, "b n d"]:
        """`positions` turn queries and keys (after their norms)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if positions is not None:
            q, k = rotate(q, positions), rotate(k, positions)
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b c"]:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int, qk_norm: bool = False):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads, qk_norm)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width, 4 * width, width)

    def forward(self, x: Float[Tensor, "b n d"], positions: Num[Tensor, "n 2"] | None) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm1(x), positions)
        return x + self.mlp(self.norm2(x))
