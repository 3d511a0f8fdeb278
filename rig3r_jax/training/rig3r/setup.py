"""From a config to its model on a mesh, its optimizer, and their compiled functions."""

import functools
from collections.abc import Callable, Sequence

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
from rig3r_jax.training.rig3r.layer_rates import layer_rates
from rig3r_jax.training.rig3r.objective import MultitaskObjective
from rig3r_jax.training.sharding import (
    FRAMES,
    batch_sharding,
    make_mesh,
    over_frames,
    over_rows,
    placed_on,
    replicated,
    samples_sharding,
    shardings_of,
    with_shardings,
)
from rig3r_jax.training.spikes import SpikeRule
from rig3r_jax.training.state import TrainState, fresh_state
from rig3r_jax.training.step import TrainStep, make_train_step


def abstract_batch(config: ConfigDict, rows: int) -> Batch:
    """The shapes of a batch of `rows` samples."""
    views, size = config.sampling.num_views, config.sampling.image_size
    abstract, array = abstract_views(rows, views, size), functools.partial(_abstract, rows, views)
    metadata = abstract.metadata
    targets = Targets(
        array(jnp.float32, size, size),
        abstract.image_mask,
        metadata.rig_from_camera,
        metadata.rig_from_camera,
        metadata.intrinsics,
        metadata.camera_id,
        metadata.time,
    )
    return Batch(abstract, targets)


def abstract_views(rows: int, views: int, size: int) -> Views:
    """The shapes of `rows` samples of square images."""
    array = functools.partial(_abstract, rows, views)
    flag, number, integer = array(jnp.bool_), array(jnp.float32), array(jnp.int32)
    matrix, intrinsics = array(jnp.float32, 4, 4), array(jnp.float32, 3, 3)
    metadata = RigMetadata(integer, integer, number, matrix, intrinsics, flag, flag, flag)
    return Views(array(jnp.uint8, size, size, 3), array(jnp.bool_, size, size), metadata)


def _abstract(rows: int, views: int, dtype, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, views, *shape), dtype)


def smallest_views(model: Rig3R) -> Views:
    """The shapes of one image of 2 x 2 patches: parameters do not depend on sizes."""
    return abstract_views(1, 1, 2 * model.patch)


def abstract_params(model: Rig3R) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes of a model's parameters; nothing is allocated."""
    return jax.eval_shape(model.init, jax.random.key(0), smallest_views(model))["params"]


def build_model(config: ConfigDict, backend: str | None = None, kind: str = "") -> Rig3R:
    """The model of config.model for a device of this backend and kind; where its parameters come from (`init_from`) is
    no part of it."""
    fields = {key: value for key, value in config.model.items() if key != "init_from"}
    return build(**fields, backend=backend, kind=kind)


class PlacedModel:
    """The model of a config on its mesh. Needs no data and allocates no parameters.

    Functions are jitted, placed on the mesh and built at their first use: who only predicts makes no optimizer.
    """

    def __init__(self, config: ConfigDict, devices: Sequence[jax.Device] | None = None):
        self.config = config
        self.mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.frames, devices)
        device = self.mesh.devices.flat[0]
        backend = "gpu" if device.platform == "cuda" else device.platform  # a described device names its platform so
        self.on_one_device = build_model(config, backend, device.device_kind)  # knows of no mesh
        self.model = self._on_mesh(self.on_one_device)

    def _on_mesh(self, model: Rig3R) -> Rig3R:
        if self.mesh.size == 1:
            return model
        jointly = model.attend_jointly
        return model.clone(
            attend=over_rows(model.attend, self.mesh),
            attend_jointly=(over_frames if self.mesh.shape[FRAMES] > 1 else over_rows)(jointly, self.mesh),
        )

    @functools.cached_property
    def abstract_params(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes and shardings of the parameters."""
        return with_shardings(self.mesh, abstract_params(self.on_one_device))

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes and shardings of the state."""
        return with_shardings(self.mesh, jax.eval_shape(self._fresh_state, self.abstract_params))

    @functools.cached_property
    def init_params(self) -> Callable[[], PyTree]:
        """Fresh parameters, a function of config.seed."""
        return OnMesh(self.mesh, jax.jit(self._fresh_params, out_shardings=shardings_of(self.abstract_params)))

    def init(self) -> TrainState:
        """A fresh state."""
        return self._init_state(self.init_params())

    @functools.cached_property
    def predict(self) -> Callable[[PyTree, Views], Predictions]:
        """Predictions of a batch, whole samples on every device."""
        return OnMesh(
            self.mesh,
            jax.jit(
                lambda params, views: self.model.apply({"params": params}, views),
                in_shardings=(shardings_of(self.abstract_params), batch_sharding(self.mesh)),
                out_shardings=samples_sharding(self.mesh),
            ),
        )

    @functools.cached_property
    def train_step(self) -> TrainStep:
        """The step of `training.step`; it is given the state's buffers to keep."""
        config, shardings = self.config, shardings_of(self.abstract_state)
        step = make_train_step(
            MultitaskObjective(self.model, LossWeights(**config.loss.to_dict())),
            *build_optimizer(config),
            accumulate=config.train.accumulate,
            ema_decay=config.optimizer.ema_decay,
            frozen=config.optimizer.frozen,
            spikes=spike_rule(config),
        )
        places = {
            "in_shardings": (shardings, batch_sharding(self.mesh)),
            "out_shardings": (shardings, replicated(self.mesh)),
        }
        return OnMesh(self.mesh, jax.jit(step, donate_argnums=0, **places))

    @functools.cached_property
    def _init_state(self) -> Callable[[PyTree], TrainState]:
        shardings = shardings_of(self.abstract_state)
        return OnMesh(self.mesh, jax.jit(self._fresh_state, out_shardings=shardings, donate_argnums=0))

    def _fresh_params(self) -> PyTree:
        views = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), smallest_views(self.on_one_device))
        return self.on_one_device.init(jax.random.key(self.config.seed), views)["params"]

    def _fresh_state(self, params: PyTree) -> TrainState:
        (optimizer, _), options = build_optimizer(self.config), self.config.optimizer
        return fresh_state(params, optimizer, keep_ema=options.ema_decay > 0, frozen=options.frozen)


def build_optimizer(config: ConfigDict) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of config.optimizer and its learning rate as a function of the step, that of the heads; what is
    frozen is not given to it."""
    options = config.optimizer.to_dict()
    schedule = learning_rate_schedule(
        learning_rate=options.pop("learning_rate"),
        end_learning_rate=options.pop("end_learning_rate"),
        warmup_steps=options.pop("warmup_steps"),
        steps=config.train.steps,
    )
    decay, rates = options.pop("layer_decay"), None
    if decay != 1:
        rates = functools.partial(layer_rates, build_model(config, backend="cpu"), decay=decay)
    for key in ("ema_decay", "frozen"):  # of the state and the step
        options.pop(key)
    optimizer, rule = make_optimizer(schedule, **options, rates=rates), spike_rule(config)
    return rule.watching(optimizer) if rule else optimizer, schedule


def spike_rule(config: ConfigDict) -> SpikeRule | None:
    """Which steps are skipped as spikes; None: none are."""
    train = config.train
    return SpikeRule(train.skip_spikes, train.spike_window) if train.skip_spikes else None


class OnMesh:
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
