"""Rig3R in plain PyTorch, from the specification: a second opinion on the Flax model, not a product.

Module names are those of the Flax model, so that a state dict maps onto its parameters one to one. Inputs are the
dataclasses of `rig3r_jax.schema` that hold tensors; outputs are a dict named like the fields of `Predictions`.
"""

import flax.linen
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rig3r_jax.parity.torch_dpt import DPT
from rig3r_jax.parity.torch_layers import (
    EPSILON,
    Block,
    Mlp,
    grid_sincos,
    patch_positions,
    patchify,
    sincos,
    unpatchify,
)
from rig3r_jax.parity.torch_losses import raymap
from rig3r_jax.schema import RigMetadata, Views

CODE_WIDTH = 64  # sine-cosine channels of a scalar metadata field


class Encoder(nn.Module):
    """A ViT over every image by itself."""

    def __init__(self, width: int, depth: int, heads: int, patch: int, position: str):
        super().__init__()
        self.width, self.patch, self.position = width, patch, position
        self.patch_embed = nn.Linear(3 * patch * patch, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, images: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b n d"]:
        """Tokens of images in [-1, 1]."""
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        x = self.patch_embed(patchify(images, self.patch))
        rotary = patch_positions(rows, columns, x.device) if self.position == "rope" else None
        if rotary is None:
            precise = torch.promote_types(x.dtype, torch.float32)
            x = x + grid_sincos(rows, columns, self.width, precise, x.device).to(x.dtype)
        for block in self.blocks:
            x = block(x, rotary)
        return self.norm(x)


class RigEmbedding(nn.Module):
    """Sum of one projection per metadata field, or of its null vector where the field is not known."""

    def __init__(self, width: int, time_unit: float):
        super().__init__()
        self.time_unit = time_unit
        self.frame_index = nn.Linear(CODE_WIDTH, width)
        self.camera_id = nn.Linear(CODE_WIDTH, width)
        self.time = nn.Linear(CODE_WIDTH, width)
        self.rig = nn.Linear(6, width)
        self.camera_id_null = nn.Parameter(torch.zeros(width))
        self.time_null = nn.Parameter(torch.zeros(width))
        self.rig_null = nn.Parameter(torch.zeros(width))

    def forward(self, metadata: RigMetadata, grid: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "b v n d"]:
        """One vector per patch of every image; `grid` and `size` are (rows, columns) in patches and pixels."""
        dtype = self.rig_null.dtype
        directions, center = raymap(metadata.rig_from_camera, metadata.intrinsics, size, grid, metadata.distortion)
        rig = torch.cat([directions, center[:, :, None, None].expand_as(directions)], dim=-1).flatten(2, 3)
        camera_id = sincos(metadata.camera_id, CODE_WIDTH, dtype)[:, :, None]
        time = sincos(metadata.time / self.time_unit, CODE_WIDTH, dtype)[:, :, None]
        return (
            self.frame_index(sincos(metadata.frame_index, CODE_WIDTH, dtype))[:, :, None]
            + value_or_null(metadata.has_camera_id, camera_id, self.camera_id, self.camera_id_null)
            + value_or_null(metadata.has_time, time, self.time, self.time_null)
            + value_or_null(metadata.has_rig, rig, self.rig, self.rig_null)
        )


def value_or_null(has_value: Tensor, value: Tensor, project: nn.Linear, null: Tensor) -> Float[Tensor, "b v n d"]:
    """Projection of the field where it is known; elsewhere it may hold NaN and the null vector stands for it."""
    has_value = has_value[:, :, None, None]
    return torch.where(has_value, project(torch.where(has_value, value, 0)), null)


class Decoder(nn.Module):
    """Joint self-attention over the tokens of all images, in stages that end at L/2, 3L/4 and L."""

    def __init__(self, width: int, depth: int, heads: int, qk_norm: bool):
        super().__init__()
        half, three_quarters = depth // 2, 3 * depth // 4
        for stage, blocks in enumerate((half, three_quarters - half, depth - three_quarters)):
            self.add_module(f"stage{stage}", nn.ModuleList(Block(width, heads, qk_norm) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, x: Float[Tensor, "b n d"], rotary: Tensor | None) -> list[Float[Tensor, "b n d"]]:
        """The input and the state after every stage, the last one normalised."""
        states = [x]
        for stage in (self.stage0, self.stage1, self.stage2):
            for block in stage:
                x = block(x, rotary)
            states.append(x)
        return [*states[:-1], self.norm(x)]


class LinearPointHead(nn.Module):
    """One linear layer from a token to its grid of points."""

    def __init__(self, width: int, points_per_patch: int):
        super().__init__()
        self.proj = nn.Linear(width, 4 * points_per_patch**2)

    def forward(self, levels: list[Float[Tensor, "b v n d"]], rows: int, columns: int) -> Float[Tensor, "b v h w 4"]:
        return unpatchify(self.proj(levels[-1]), rows, columns, 4)


class DPTPointHead(nn.Module):
    """A DPT head over every view."""

    def __init__(self, width: int, patch: int, features: int, last: int):
        super().__init__()
        self.dpt = DPT(width, patch, features, last, channels=4)

    def forward(self, levels: list[Float[Tensor, "b v n d"]], rows: int, columns: int) -> Float[Tensor, "b v h w 4"]:
        maps = self.dpt([level.flatten(0, 1) for level in levels], rows, columns)
        return maps.unflatten(0, levels[0].shape[:2])


class RayHead(nn.Module):
    """One MLP per token for the directions of its patch, one on the mean token of an image for the centre."""

    def __init__(self, width: int, hidden: int, rays_per_patch: int):
        super().__init__()
        self.directions = Mlp(width, hidden, 3 * rays_per_patch**2)
        self.center = Mlp(width, hidden, 3)

    def forward(
        self, tokens: Float[Tensor, "b v n d"], rows: int, columns: int
    ) -> tuple[Float[Tensor, "b v h w 3"], Float[Tensor, "b v 3"]]:
        """Directions, not normalised, and centres."""
        return unpatchify(self.directions(tokens), rows, columns, 3), self.center(tokens.mean(dim=2))


class Rig3R(nn.Module):
    """Images and what is known about the rig, to points, pose rays and rig rays. Fields as in the Flax model."""

    FIELDS = (
        *("width", "heads", "encoder_depth", "decoder_depth", "patch", "decoder_width", "decoder_heads"),
        *("position", "point_head", "points_per_patch", "rays_per_patch", "ray_hidden", "dpt_features", "dpt_last"),
        *("time_unit", "qk_norm"),
    )

    @classmethod
    def fields_of(cls, model: flax.linen.Module) -> dict[str, object]:
        """The fields of the twin of a Flax model.

        Raises:
            ValueError: the model's linear layers multiply in a way of their own, or it reads no metadata.
        """
        if not model.rig_embedding:
            raise ValueError("the twin reads all metadata: --config.model.rig_embedding=True")
        if model.linear != "plain":
            raise ValueError(f"the twin has no linear layers of kind {model.linear!r}: --config.model.linear=plain")
        return {name: getattr(model, name) for name in cls.FIELDS}

    def __init__(self, **fields):
        super().__init__()
        if set(fields) != set(self.FIELDS):
            raise ValueError(f"the twin takes exactly the fields {self.FIELDS}, not {sorted(fields)}")
        self.patch, self.position = fields["patch"], fields["position"]
        width, heads = fields["width"], fields["heads"]
        self.encoder = Encoder(width, fields["encoder_depth"], heads, self.patch, self.position)
        inner = fields["decoder_width"] or width
        self.decoder_embed = nn.Linear(width, inner) if inner != width else nn.Identity()
        self.rig_embedding = RigEmbedding(inner, fields["time_unit"])
        self.decoder = Decoder(inner, fields["decoder_depth"], fields["decoder_heads"] or heads, fields["qk_norm"])
        if fields["point_head"] == "linear":
            self.point_head = LinearPointHead(inner, fields["points_per_patch"])
        else:
            self.point_head = DPTPointHead(inner, self.patch, fields["dpt_features"], fields["dpt_last"])
        self.pose_head = RayHead(inner, fields["ray_hidden"], fields["rays_per_patch"])
        self.rig_head = RayHead(inner, fields["ray_hidden"], fields["rays_per_patch"])

    def forward(self, views: Views) -> dict[str, Tensor]:
        """The fields of `schema.Predictions`."""
        batch, count, height, width = views.images.shape[:4]
        grid = rows, columns = height // self.patch, width // self.patch
        images = views.images.to(self.rig_embedding.rig_null.dtype)
        if views.images.dtype == torch.uint8:
            images = images / 255
        tokens = self.decoder_embed(self.encoder(2 * images.flatten(0, 1) - 1)).unflatten(0, (batch, count))
        tokens = tokens + self.rig_embedding(views.metadata, grid, (height, width)).to(tokens.dtype)
        rotary = patch_positions(rows, columns, tokens.device).repeat(count, 1) if self.position == "rope" else None
        states = self.decoder(tokens.flatten(1, 2), rotary)
        states = [state.unflatten(1, (count, rows * columns)) for state in states]

        raw = self.point_head(states, rows, columns)
        length = raw[..., :3].norm(dim=-1, keepdim=True)
        pose_directions, pose_center = self.pose_head(states[-1], rows, columns)
        rig_directions, rig_center = self.rig_head(states[-1], rows, columns)
        return {
            "points": raw[..., :3] / length * torch.expm1(length),
            "confidence": 1 + torch.exp(raw[..., 3]),
            "pose_directions": pose_directions,
            "pose_center": pose_center,
            "rig_directions": rig_directions,
            "rig_center": rig_center,
        }
