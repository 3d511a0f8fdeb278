"""The optimizer of training in plain PyTorch: clipping by the global norm, AdamW, warm-up and cosine annealing."""

import math

import torch
from torch import Tensor, nn

DECAYING = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)  # whose weights decay; biases, norms and null vectors do not


def learning_rate(step: int, *, peak: float, end: float, warmup_steps: int, steps: int) -> float:
    """Of the step-th update, counted from 0: linear from 0 to the peak, then half a cosine to the end at `steps`."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    done = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
    return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2


def adamw(model: nn.Module, *, b1: float, b2: float, eps: float, weight_decay: float) -> torch.optim.AdamW:
    """torch's AdamW with decay on the weights of linear layers and convolutions only."""
    decayed = [module.weight for module in model.modules() if isinstance(module, DECAYING)]
    decayed_ids = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in decayed_ids]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(b1, b2), eps=eps, fused=True)


def clip_by_global_norm(parameters: list[Tensor], max_norm: float) -> Tensor:
    """Scales the gradients down to `max_norm`; returns the norm that they had.

    `torch.nn.utils.clip_grad_norm_` divides by norm + 1e-6. The definition here is the norm itself, as in Pascanu et
    al. 2013 and optax.
    """
    gradients = [parameter.grad for parameter in parameters]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm
