"""From a config to the objects of a run: model, optimizer, mesh, compiled functions, data."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.models.rig3r import Rig3R, build
from rig3r_jax.schema import Batch, Predictions, RigMetadata, Targets, Views
from rig3r_jax.training.optimizer import learning_rate_schedule, make_optimizer
from rig3r_jax.training.rig3r.objective import MultitaskObjective
from rig3r_jax.training.sharding import (
    batch_sharding,
    make_mesh,
    over_frames,
    placed_on,
    replicated,
    samples_sharding,
    state_shardings,
)
from rig3r_jax.training.state import TrainState, init_state
from rig3r_jax.training.step import TrainStep, make_train_step


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config becomes. `train_step` and `predict` are jitted and placed on the mesh."""

    config: ConfigDict
    mesh: Mesh
    model: Rig3R
    init: Callable[[], TrainState]
    abstract_state: TrainState  # ShapeDtypeStructs with shardings
    train_step: TrainStep
    predict: Callable[[PyTree, Views], Predictions]


def abstract_batch(config: ConfigDict, rows: int) -> Batch:
    """The shapes of a batch of `rows` samples."""
    views, size = config.sampling.num_views, config.sampling.image_size

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((rows, views, *shape), dtype)

    flag, number, integer, matrix = array(jnp.bool_), array(jnp.float32), array(jnp.int32), array(jnp.float32, 4, 4)
    intrinsics, mask = array(jnp.float32, 3, 3), array(jnp.bool_, size, size)
    metadata = RigMetadata(integer, integer, number, matrix, intrinsics, flag, flag, flag)
    targets = Targets(array(jnp.float32, size, size), mask, matrix, matrix, intrinsics, integer, number)
    return Batch(Views(array(jnp.uint8, size, size, 3), mask, metadata), targets)


def build_model(config: ConfigDict, backend: str | None = None) -> Rig3R:
    """The model of config.model; where its parameters come from (`init_from`) is no part of it."""
    return build(**{key: value for key, value in config.model.items() if key != "init_from"}, backend=backend)


def build_run(config: ConfigDict, devices: list[jax.Device] | None = None) -> Run:
    """Builds everything that needs no data and allocates no parameters."""
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.frames, devices)
    plain = build_model(config, backend=mesh.devices.flat[0].platform)
    model = plain if config.mesh.frames == 1 else plain.clone(attend_jointly=over_frames(plain.attend, mesh))
    optimizer, schedule = build_optimizer(config)

    def init() -> TrainState:
        views = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_batch(config, 1).views)
        return init_state(plain, optimizer, views, config.seed, keep_ema=config.optimizer.ema_decay > 0)

    shapes = jax.eval_shape(init)
    shardings = state_shardings(mesh, shapes)
    batch, whole = batch_sharding(mesh), replicated(mesh)
    train_step = make_train_step(
        MultitaskObjective(model, LossWeights(**config.loss.to_dict())),
        optimizer,
        schedule,
        accumulate=config.train.accumulate,
        ema_decay=config.optimizer.ema_decay,
    )
    return Run(
        config=config,
        mesh=mesh,
        model=model,
        init=_on(mesh, jax.jit(init, out_shardings=shardings)),
        abstract_state=jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
        ),
        train_step=_on(
            mesh,
            jax.jit(train_step, in_shardings=(shardings, batch), out_shardings=(shardings, whole), donate_argnums=0),
        ),
        predict=_on(
            mesh,
            jax.jit(
                lambda params, views: model.apply({"params": params}, views),
                in_shardings=(shardings.params, batch),
                out_shardings=samples_sharding(mesh),
            ),
        ),
    )


def build_optimizer(config: ConfigDict) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of config.optimizer and its learning rate as a function of the step."""
    options = config.optimizer.to_dict()
    schedule = learning_rate_schedule(
        learning_rate=options.pop("learning_rate"),
        end_learning_rate=options.pop("end_learning_rate"),
        warmup_steps=options.pop("warmup_steps"),
        steps=config.train.steps,
    )
    options.pop("ema_decay")
    return make_optimizer(schedule, **options), schedule


class _on:  # noqa: N801 - reads as a phrase: _on(mesh, function)
    """A jitted function whose tracing happens on a mesh; `lower` as jit's."""

    def __init__(self, mesh: Mesh, function):
        self._mesh, self._function = mesh, function

    def __call__(self, *args):
        with placed_on(self._mesh):
            return self._function(*args)

    def lower(self, *args):
        """Lowers for arguments or ShapeDtypeStructs."""
        with placed_on(self._mesh):
            return self._function.lower(*args)
