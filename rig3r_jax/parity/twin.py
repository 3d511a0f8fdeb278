"""Rig3R and its training in Flax against the PyTorch twin: the same weights and batch, every number compared."""

import argparse
import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.losses.ground_truth import ground_truth_for
from rig3r_jax.losses.multitask import LossWeights, multitask_loss
from rig3r_jax.models.attention import KERNELS
from rig3r_jax.parity.inputs import random_batch, random_parameters
from rig3r_jax.parity.torch_rig3r import Rig3R as Twin
from rig3r_jax.parity.torch_run import HOOKED, Outcome, Recipe, named_states, run_torch
from rig3r_jax.parity.twin_tables import PRECISIONS, Precision, Section, compare_outcomes, format_section
from rig3r_jax.schema import Batch
from rig3r_jax.training.rig3r.initial import initialise
from rig3r_jax.training.rig3r.objective import MultitaskObjective
from rig3r_jax.training.rig3r.setup import build_model, build_optimizer
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.step import make_train_step
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.engine import export


def twin_command(config: ConfigDict, options: argparse.Namespace) -> int:
    """`rig3r parity twin`: prints the tables; 1 when anything is beyond its tolerance."""
    settings = {name: getattr(options, name) for name in ("batch", "views", "size", "seed", "corrupt")}
    sections = run_twin(config, precisions=options.precision, steps=options.steps, **settings)
    sections += run_twin(config, precisions=options.precision, steps=0, lenses=True, **settings)
    for section in sections:
        print(format_section(section, in_full=options.all), end="\n\n")
    beyond, compared = sum(section.beyond for section in sections), sum(len(section.rows) for section in sections)
    print(f"{compared} arrays compared with the PyTorch twin, {beyond} beyond tolerance")
    return int(beyond > 0)


def run_twin(
    config: ConfigDict,
    *,
    precisions: Sequence[str] = ("float64", "float32"),
    steps: int = 20,
    batch: int = 2,
    views: int | None = None,
    size: int | None = None,
    seed: int = 0,
    corrupt: str | None = None,
    lenses: bool = False,
) -> list[Section]:
    """Runs both sides and compares them.

    Args:
        config: a whole config; of it the model (with init_from), the loss and the optimizer count, in one micro-batch
            and without an average of the parameters. The schedule is shortened to `steps`.
        precisions: keys of PRECISIONS; tf32 is left out, with a remark, where there is no GPU.
        steps: of AdamW; 0 leaves training out.
        batch: samples of the random batch.
        views: images per sample; None: as the config says.
        size: pixels of an image's side; None: as the config says.
        seed: of batch and parameters.
        corrupt: what is changed by 1% on the twin's side, to see that it is noticed: a name of its state dict (its
            first element changes, by 1% of the largest), `loss.alpha` or `optimizer.b1` and the like.
        lenses: images of all kinds of lenses, else of pinholes.
    """
    unknown = sorted(set(precisions) - set(PRECISIONS))
    if unknown:
        raise ValueError(f"precision {', '.join(unknown)} is not known; take some of {', '.join(PRECISIONS)}")
    if config.optimizer.frozen or config.optimizer.layer_decay != 1:
        raise ValueError("the twin trains all parameters at one rate: optimizer.frozen=() and layer_decay=1.0")
    config = _shortened(config, steps, views, size)
    data = random_batch(seed, batch, config.sampling.num_views, config.sampling.image_size, lenses)
    model = build_model(_of_type(config, "float32"))
    fields = Twin.fields_of(model)
    params = random_parameters(model.clone(unroll=False), data.views, seed)  # unrolling would compile for longer
    if config.model.init_from:
        laid_over, _ = initialise(jax.tree.map(jnp.asarray, params), config.model.init_from, config.model)
        params = jax.device_get(laid_over)
    state, recipe = _corrupted(export(params, rig3r.table(params)), _recipe(config, steps), corrupt)
    exact = run_torch(fields, state, data, recipe, "float64")
    sections, kinds = [], ", lenses of all kinds" if lenses else ""
    for name in precisions:
        precision = PRECISIONS[name]
        if name == "tf32" and jax.default_backend() != "gpu":
            sections.append(Section(name + kinds, [], remark="not compared: only GPUs have TF32"))
            continue
        trained = precision.after_steps is not None
        ours = run_flax(config, params, data, precision, steps if trained else 0)
        if not trained:
            theirs = dataclasses.replace(exact, curves={}, parameters={})
        else:
            theirs = exact if name == "float64" else run_torch(fields, state, data, recipe, name)
        for section in compare_outcomes(name, ours, theirs, exact, state):
            sections.append(dataclasses.replace(section, title=section.title.replace(name, name + kinds, 1)))
    return sections


def run_flax(config: ConfigDict, params: PyTree, batch: Batch, precision: Precision, steps: int) -> Outcome:
    """Our outcome by the twin's names: the real model, loss, optimizer and train step."""
    config = _of_type(config, precision.dtype)
    double = precision.dtype == "float64"

    def array(leaf):
        floating = np.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf, (jnp.float64 if double else jnp.float32) if floating else None)

    with jax.enable_x64(double), jax.default_matmul_precision(precision.products):
        params, batch = jax.tree.map(array, (params, batch))
        model, weights = build_model(config), LossWeights(**config.loss.to_dict())

        def loss_of(params, batch):
            predictions, state = model.apply(
                {"params": params},
                batch.views,
                capture_intermediates=lambda module, _: len(module.path) == 1,
                mutable="intermediates",
            )
            truth = ground_truth_for(predictions, batch.targets, batch.views.image_mask)
            loss, terms = multitask_loss(predictions, truth, weights)
            return loss, (predictions, state["intermediates"], {name: mean.compute() for name, mean in terms.items()})

        gradients, (predictions, states, terms) = jax.jit(jax.grad(loss_of, has_aux=True))(params, batch)
        states = {name: states[name]["__call__"][0] for name in HOOKED}
        after, curves = _train(config, model, weights, params, batch, steps) if steps else ({}, {})
        return Outcome(
            forward=jax.device_get(named_states(states) | dataclasses.asdict(predictions)),
            terms=jax.device_get(terms),
            gradients=export(gradients, rig3r.table(gradients)),
            curves=curves,
            parameters=export(after, rig3r.table(after)),
        )


def _train(config: ConfigDict, model: nn.Module, weights: LossWeights, params: PyTree, batch: Batch, steps: int):
    optimizer, schedule = build_optimizer(config)
    train_step = jax.jit(make_train_step(MultitaskObjective(model, weights), optimizer, schedule))
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(zero, params, optimizer.init(params), {}, zero, zero)
    if config.model.dtype == "float64":  # JAX divides int32 in float32, which would round schedule and bias correction
        state = jax.tree.map(lambda leaf: leaf.astype(jnp.int64) if leaf.dtype == jnp.int32 else leaf, state)
    curves = {"learning rate": [], "gradient norm": [], "loss": []}
    for _ in range(steps):
        rate = schedule(state.step)
        state, metrics = train_step(state, batch)
        values = rate, metrics["train/gradient_norm"].compute(), metrics["loss/total"].compute()
        for name, value in zip(curves, values, strict=True):
            curves[name].append(float(value))
    return state.params, {name: np.array(values) for name, values in curves.items()}


def _shortened(config: ConfigDict, steps: int, views: int | None, size: int | None) -> ConfigDict:
    """The config with warm-up and cosine inside `steps`."""
    config = config.copy_and_resolve_references()
    config.sampling.num_views = views or config.sampling.num_views
    config.sampling.image_size = size or config.sampling.image_size
    if config.sampling.image_size % config.model.patch:
        raise ValueError(
            f"size is {config.sampling.image_size}; it must be a multiple of model.patch={config.model.patch}"
        )
    config.train.steps = max(steps, 1)
    config.optimizer.warmup_steps = steps // 4
    if config.model.attention in KERNELS:
        config.model.attention = "auto"  # they know 16-bit types only
    return config


def _of_type(config: ConfigDict, dtype: str) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    return config


def _recipe(config: ConfigDict, steps: int) -> Recipe:
    options = config.optimizer
    return Recipe(
        loss=config.loss.to_dict(),
        optimizer={name: options[name] for name in ("b1", "b2", "eps", "weight_decay")},
        schedule={
            "peak": options.learning_rate,
            "end": options.end_learning_rate,
            "warmup_steps": options.warmup_steps,
            "steps": config.train.steps,
        },
        clip_norm=options.clip_norm,
        steps=steps,
    )


def _corrupted(state: dict[str, np.ndarray], recipe: Recipe, name: str | None) -> tuple[dict[str, np.ndarray], Recipe]:
    """State dict and recipe with one thing changed by 1%."""
    if name is None:
        return state, recipe
    section, _, key = name.partition(".")
    numbers = getattr(recipe, section) if section in ("loss", "optimizer") else {}
    if isinstance(numbers.get(key), float):
        return state, dataclasses.replace(recipe, **{section: {**numbers, key: 1.01 * numbers[key]}})
    if name not in state:
        raise ValueError(f"corrupt is {name!r}; it must be a parameter of the twin, or a number such as loss.alpha")
    changed = np.array(state[name])
    changed.flat[0] += 0.01 * np.abs(changed).max()
    return {**state, name: changed}, recipe
