"""The PyTorch twin made ready to be timed: 16-bit activations, fused attention, checkpoints, a loss of fixed shapes."""

import functools
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from rig3r_jax.parity.torch_layers import Attention, Block
from rig3r_jax.parity.torch_rig3r import DPTPointHead, Rig3R

# Kernels behind torch's scaled_dot_product_attention; `default` lets torch choose. `flash3` is what torch_flash3 puts
# in the place of `flash`.
SDPA = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "flash3": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
_ATTENTION = tuple(
    getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}").default
    for kernel in ("flash_attention", "cudnn_attention", "efficient_attention", "flash_attention_for_cpu")
)
# What the backward pass finds kept of a block under a policy of `models.remat`, beside the block's input.
KEPT = {
    "full": (),
    "attention": _ATTENTION,
    "dots": (*_ATTENTION, torch.ops.aten.mm.default, torch.ops.aten.addmm.default),
}
# Modules that compute in float32 whatever the activations are: as in the Flax model.
PRECISE = ("rig_embedding", "point_head.proj", "head3", "directions.fc2", "center.fc1", "center.fc2")


class Linear(nn.Linear):
    """Casts input and float32 parameters to the type of the activations."""

    compute: torch.dtype

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
        return functional.linear(x.to(self.compute), self.weight.to(self.compute), self.bias.to(self.compute))


class LayerNorm(nn.LayerNorm):
    """Moments in float32, output in the type of the activations."""

    compute: torch.dtype

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return super().forward(x.float()).to(self.compute)


class Conv2d(nn.Conv2d):
    """Casts input and float32 parameters to the type of the activations."""

    compute: torch.dtype

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        bias = None if self.bias is None else self.bias.to(self.compute)
        return self._conv_forward(x.to(self.compute), self.weight.to(self.compute), bias)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Casts input and float32 parameters to the type of the activations."""

    compute: torch.dtype

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        weight, bias = self.weight.to(self.compute), self.bias.to(self.compute)
        return functional.conv_transpose2d(x.to(self.compute), weight, bias, self.stride)


class Checkpointed(nn.Module):
    """Keeps the module's inputs and what the operations `kept` return; the backward pass computes the rest again."""

    def __init__(self, module: nn.Module, kept: tuple = ()):
        super().__init__()
        self.module = module
        contexts = functools.partial(create_selective_checkpoint_contexts, list(kept))
        self.options = {"context_fn": contexts} if kept else {}

    def forward(self, *args):
        return checkpoint(self.module, *args, use_reentrant=False, **self.options)


class ChunkedDPT(nn.Module):
    """A DPT head over `rows_at_a_time` images at a time, each part a checkpoint: as the Flax model's."""

    def __init__(self, dpt: nn.Module, rows_at_a_time: int):
        super().__init__()
        self.dpt, self.rows_at_a_time = Checkpointed(dpt), rows_at_a_time

    def forward(self, levels: list[Float[Tensor, "b n d"]], rows: int, columns: int) -> Float[Tensor, "b h w c"]:
        parts = zip(*(level.split(self.rows_at_a_time) for level in levels), strict=True)
        return torch.cat([self.dpt(list(part), rows, columns) for part in parts])


_CASTING = {nn.Linear: Linear, nn.LayerNorm: LayerNorm, nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}


def fast_twin(
    fields: Mapping, weights: Mapping, *, dtype: str, device: str, images_per_chunk: int, remat: str, kernel: str
) -> Rig3R:
    """The twin with its weights on a device, computing as the Flax model of `dtype` does.

    Args:
        fields: of the twin's Rig3R.
        weights: its state dict, float32 arrays.
        dtype: bfloat16 or float32, of the activations; parameters are float32.
        device: cpu or cuda.
        images_per_chunk: that pass a DPT head at a time.
        remat: what a block keeps for the backward pass: none (all), or a key of KEPT.
        kernel: of attention, a key of SDPA.

    Raises:
        ValueError: for rotary positions in 16 bits, and a remat policy that PyTorch does not have.
    """
    if remat not in ("none", *KEPT):
        raise ValueError(f"the twin has no remat policy {remat!r}; take none, {', '.join(KEPT)}")
    if dtype != "float32" and fields["position"] == "rope":
        raise ValueError("the twin turns positions by complex numbers, which have no 16-bit type; take sincos")
    model = Rig3R(**fields)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    if dtype != "float32":
        compute_in(model, getattr(torch, dtype))
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = attention_on(kernel)
    if isinstance(model.point_head, DPTPointHead):
        model.point_head.dpt = ChunkedDPT(model.point_head.dpt, images_per_chunk)
    if remat != "none":
        for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            for index, block in enumerate(blocks):
                blocks[index] = Checkpointed(block, KEPT[remat]) if isinstance(block, Block) else block
    layout = torch.channels_last if device == "cuda" or dtype != "float32" else torch.preserve_format
    return model.to(device, memory_format=layout)


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes layers cast their inputs and parameters to `dtype`, those of PRECISE to float32."""
    for name, module in model.named_modules():
        if type(module) in _CASTING:
            module.__class__ = _CASTING[type(module)]
            precise = any(part in name for part in PRECISE)
            module.compute = torch.float32 if precise else dtype


def attention_on(kernel: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """torch's attention on one kernel of SDPA and on no other.

    The choice is made inside the function: it becomes a part of the graph that torch.compile makes and keeps.
    """
    backend = SDPA[kernel]
    if backend is None:
        return functional.scaled_dot_product_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(q, k, v)

    return attend


def masked_loss(
    predictions: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    *,
    alpha: float,
    beta: float,
    lambda_pose: float,
    lambda_rig: float,
    reduction: str,
) -> Float[Tensor, ""]:
    """`torch_losses.multitask_loss` by masks in place of gathered values: no shape hangs on the data."""
    over = functools.partial(_masked, mean=reduction == "mean")
    valid = truth["points_valid"]
    distance = _distance(predictions["points"], truth["points"], valid)
    confidence = predictions["confidence"]
    total = over(confidence * distance - alpha * torch.log(confidence), valid)
    for name, weight in (("pose", lambda_pose), ("rig", lambda_rig)):
        seen, rays = truth["ray_mask"], predictions[f"{name}_directions"]
        centers = predictions[f"{name}_center"]
        scaled = truth["has_scale"][:, None].expand(centers.shape[:2])
        total = total + weight * over(_distance(rays, truth[f"{name}_directions"], seen), seen)
        total = total + weight * beta * over(_distance(centers, truth[f"{name}_center"], scaled), scaled)
    return total


def _distance(predicted: Tensor, target: Tensor, mask: Bool[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Distances where `mask` holds; 0, without a gradient, elsewhere."""
    offset = torch.where(mask[..., None], predicted - target, 1.0)
    return torch.where(mask, offset.norm(dim=-1), 0.0)


def _masked(values: Tensor, mask: Bool[Tensor, "*b"], *, mean: bool) -> Float[Tensor, ""]:
    """Mean or sum where `mask` holds; 0 over nothing."""
    total = torch.where(mask, values, 0.0).sum()
    return total / mask.sum().clamp(min=1) if mean else total
