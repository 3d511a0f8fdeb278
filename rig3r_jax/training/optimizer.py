"""AdamW with warm-up and cosine annealing; which parameters decay is an ordered list of rules."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

# (regex over the parameter's path, decays?): the first match wins and every parameter must match.
WEIGHT_DECAY_RULES: tuple[tuple[str, bool], ...] = (
    (r"(^|/)bias$", False),
    (r"norm\d?/scale$", False),
    (r"_null$", False),
    (r"/kernel$", True),
)


def path_string(path: tuple) -> str:
    """A key path as `encoder/blocks/block/attn/qkv/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def first_match(rules, tree: PyTree) -> PyTree:
    """The policy of the first rule whose regex finds each leaf's path.

    Raises:
        ValueError: naming every leaf that no rule matches.
    """
    unmatched = []

    def policy(path, _):
        name = path_string(path)
        for pattern, value in rules:
            if re.search(pattern, name):
                return value
        unmatched.append(name)

    policies = jax.tree_util.tree_map_with_path(policy, tree)
    if unmatched:
        raise ValueError(f"no rule matches the parameters {', '.join(unmatched)}; add one to {[r for r, _ in rules]}")
    return policies


def learning_rate_schedule(
    *, learning_rate: float, end_learning_rate: float, warmup_steps: int, steps: int
) -> optax.Schedule:
    """Linear from 0 over `warmup_steps`, then half a cosine down to `end_learning_rate` at `steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, steps, end_learning_rate)


def clip_by_global_norm(most: float) -> optax.GradientTransformation:
    """Gradients scaled so that their global norm is at most `most`.

    By a factor, which XLA computes once and multiplies in wherever a gradient is read; optax's quotient is written out.
    """

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        norm = optax.tree.norm(updates)
        factor = jnp.where(norm < most, 1.0, most / norm)
        return jax.tree.map(lambda x: x * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(
    schedule: optax.Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    rates: Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """Clipping by the global norm (0: none), then AdamW (Loshchilov & Hutter 2019).

    `rates` gives every parameter of a tree its factor of the learning rate, and so of its decay; None: all are 1.
    """
    adamw = optax.chain(
        clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.adamw(
            schedule,
            b1,
            b2,
            eps,
            weight_decay=weight_decay,
            mask=lambda params: first_match(WEIGHT_DECAY_RULES, params),
        ),
    )
    return optax.chain(adamw, scale_updates(rates)) if rates else adamw


def scale_updates(rates: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    """Every update times the factor of its parameter."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates(updates)))
