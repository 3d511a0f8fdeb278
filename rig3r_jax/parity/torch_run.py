"""Runs the PyTorch twin: one forward and backward pass, then some steps of training."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
import torch
from torch import Tensor

from rig3r_jax.parity.torch_losses import ground_truth, multitask_loss
from rig3r_jax.parity.torch_optimizer import adamw, clip_by_global_norm, learning_rate
from rig3r_jax.parity.torch_rig3r import Rig3R
from rig3r_jax.schema import Batch

HOOKED = ("encoder", "rig_embedding", "decoder", "point_head")  # whose outputs are compared


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one side made of the same parameters and the same batch, by the names of the twin."""

    forward: dict[str, np.ndarray]  # intermediate results and predictions
    terms: dict[str, np.ndarray]  # of the loss, and the errors that are logged
    gradients: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]  # learning rate, gradient norm and loss of every step; {} without any
    parameters: dict[str, np.ndarray]  # after the steps; {} without any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: plain numbers."""

    loss: Mapping[str, float | str]  # alpha, beta, lambda_pose, lambda_rig, reduction
    optimizer: Mapping[str, float]  # b1, b2, eps, weight_decay
    schedule: Mapping[str, float]  # peak, end, warmup_steps, steps
    clip_norm: float
    steps: int


def run_torch(fields: Mapping, weights: Mapping[str, np.ndarray], batch: Batch, recipe: Recipe, dtype: str) -> Outcome:
    """The twin's outcome.

    Args:
        fields: of the twin's Rig3R.
        weights: its whole state dict.
        batch: on the host.
        recipe: loss, optimizer and schedule.
        dtype: float32 or float64: of parameters, inputs and everything between.
    """
    torch_dtype = getattr(torch, dtype)
    model = Rig3R(**fields).to(torch_dtype)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})

    def tensor(array: np.ndarray) -> Tensor:
        array = torch.from_numpy(np.array(array))
        return array.to(torch_dtype) if array.is_floating_point() else array

    batch = jax.tree.map(tensor, batch)
    states = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: states.update({name: out}))
        for name in HOOKED
    ]
    predictions, loss, terms = _loss(model, batch, recipe)
    for hook in hooks:
        hook.remove()
    loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    curves = _train(model, batch, recipe)
    after = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()} if recipe.steps else {}
    return Outcome(
        forward=_host(named_states(states) | predictions),
        terms=_host(terms),
        gradients=gradients,
        curves=curves,
        parameters=after,
    )


def named_states(states: Mapping) -> dict:
    """Outputs of modules under names; the decoder's list becomes one entry per stage."""
    named = {name: out for name, out in states.items() if name != "decoder"}
    return named | {f"decoder.{stage}": out for stage, out in zip(("in", 0, 1, 2), states["decoder"], strict=True)}


def _loss(model: Rig3R, batch: Batch, recipe: Recipe):
    predictions = model(batch.views)
    grids = tuple(predictions["points"].shape[2:4]), tuple(predictions["pose_directions"].shape[2:4])
    truth = ground_truth(batch.targets, batch.views.image_mask, *grids)
    return predictions, *multitask_loss(predictions, truth, **recipe.loss)


def _train(model: Rig3R, batch: Batch, recipe: Recipe) -> dict[str, np.ndarray]:
    optimizer = adamw(model, **recipe.optimizer)
    curves = {"learning rate": [], "gradient norm": [], "loss": []} if recipe.steps else {}
    for step in range(recipe.steps):
        optimizer.zero_grad(set_to_none=True)  # the first gradients are kept for comparison
        _, loss, _ = _loss(model, batch, recipe)
        loss.backward()
        norm = clip_by_global_norm(list(model.parameters()), recipe.clip_norm)
        rate = learning_rate(step, **recipe.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for name, value in zip(curves, (rate, norm.item(), loss.item()), strict=True):
            curves[name].append(value)
    return {name: np.array(values) for name, values in curves.items()}


def _host(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
