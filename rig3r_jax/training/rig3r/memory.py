"""Bytes that a device holds during a step and an evaluation of Rig3R, reckoned before anything is compiled."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.models.dpt import views_at_a_time
from rig3r_jax.models.remat import kept_bytes
from rig3r_jax.models.rig3r import Rig3R, output_grids
from rig3r_jax.training.optimizer import first_match
from rig3r_jax.training.rig3r.layout import Layout
from rig3r_jax.training.rig3r.setup import abstract_batch, abstract_params, build_model
from rig3r_jax.training.sharding import PARAMETER_RULES, cut_axis
from rig3r_jax.training.trained import split

BLOCK_CHANNELS = 8  # of a token at the widest of a block's forward pass, in D: an MLP's hidden layer and its GELU


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device, by what holds them.

    For configs/full.py at one sample the sums are 6% above what an H200 held during a step (36.3 GB) and 1% above what
    it held for its predictions (3.8 GB). Not counted: what collectives gather, attention that keeps its weights
    (model.attention=dense), the compiled program, fragments between arrays.
    """

    parameters: int
    moments: int  # two of AdamW, of what is trained
    average: int  # of the parameters
    gradients: int  # of what is trained, and their sum over micro-batches
    batch: int  # the one in use and the next
    activations: int  # kept for the backward pass, or the widest of a forward pass; of a DPT head's chunk of images too
    outputs: int  # predictions; in a step their gradients and the ground truth too

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))

    def against(self, limit: int) -> str:
        """The sum, the bytes that there are, and the parts, in GB (10^9 bytes)."""
        sizes = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in sizes.items() if size)
        return f"{self.total / 1e9:.1f} GB, and JAX has {limit / 1e9:.1f} GB of every device: {parts}"


def device_bytes() -> int | None:
    """Bytes that JAX may use of a device; None where the backend does not tell, as on CPUs."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def step_memory(config: ConfigDict, model: Rig3R, params: PyTree, layout: Layout) -> Memory:
    """A training step.

    Args:
        config: of which the shapes of a batch and the optimizer count.
        model: of that config.
        params: its parameters or their shapes, whole.
        layout: how the step is spread over devices and micro-batches.
    """
    model = model.clone(remat=layout.remat)
    rows = config.train.batch_size / layout.shares / layout.frames  # samples of a device at a time, or a part of one
    size, views = config.sampling.image_size, config.sampling.num_views
    trained_params = split(params, config.optimizer.frozen)[0]
    state, trained = (parameter_bytes(part, layout.fsdp) for part in (params, trained_params))
    kept = activation_bytes(model, views, size, trains_encoder="encoder" in trained_params)
    return Memory(
        parameters=state,
        moments=2 * trained,
        average=state if config.optimizer.ema_decay else 0,
        gradients=trained * (2 if layout.accumulate > 1 else 1),
        batch=int(2 * rows * layout.accumulate * _sample_bytes(config)),
        activations=int(rows * kept),
        outputs=int(3 * rows * _prediction_bytes(model, views, size)),
    )


def evaluation_memory(
    config: ConfigDict, model: Rig3R, params: PyTree, layout: Layout, batch_size: int, *, trains: bool = True
) -> Memory:
    """Predictions for `batch_size` samples over all devices; while the state is held, where the process trains."""
    step = step_memory(config, model, params, layout)
    rows = batch_size / layout.devices
    size, views = config.sampling.image_size, config.sampling.num_views
    cells, width = (size // model.patch) ** 2, max(model.width, model.decoder_width)
    itemsize = jnp.dtype(model.dtype).itemsize
    widest = itemsize * views * cells * (BLOCK_CHANNELS * width + _level_channels(model))
    if model.point_head == "dpt":  # of whose maps a quarter is held at a time
        widest += itemsize * views_at_a_time(views, model.dpt_chunk) * point_head_elements(model, size) // 4
    return dataclasses.replace(
        step,
        moments=step.moments if trains else 0,
        average=step.average if trains else 0,
        gradients=0,
        batch=int(rows * _sample_bytes(config)),
        activations=int(rows * widest),
        outputs=int(rows * _prediction_bytes(model, views, size)),
    )


class DeviceMemory:
    """Whether steps and evaluations of a config fit a device; all do where the backend does not tell its memory, or
    the model of the config cannot be built, of which others speak. Where the process `trains`, an evaluation has the
    state beside it, else the parameters alone."""

    def __init__(self, config: ConfigDict, *, trains: bool = True):
        self._config, self._trains, self.limit = config, trains, device_bytes()
        if self.limit is not None:
            try:
                self._model = build_model(config, backend="cpu")
                self._params = abstract_params(self._model)
            except (ValueError, TypeError):
                self.limit = None

    def step(self, layout: Layout) -> Memory:
        return step_memory(self._config, self._model, self._params, layout)

    def evaluation(self, layout: Layout, batch_size: int) -> Memory:
        return evaluation_memory(self._config, self._model, self._params, layout, batch_size, trains=self._trains)

    def fits_step(self, layout: Layout) -> bool:
        return self.limit is None or self.step(layout).total <= self.limit

    def fits_evaluation(self, layout: Layout, batch_size: int) -> bool:
        return self.limit is None or self.evaluation(layout, batch_size).total <= self.limit


def parameter_bytes(params: PyTree, fsdp: int) -> int:
    """Bytes of parameters that one of `fsdp` devices holds."""

    def local(policy: str, leaf) -> int:
        ways = 1 if cut_axis(policy, leaf.shape, fsdp) is None else fsdp
        return math.prod(leaf.shape) * leaf.dtype.itemsize // ways

    return sum(jax.tree.leaves(jax.tree.map(local, first_match(PARAMETER_RULES, params), params)))


def activation_bytes(model: Rig3R, views: int, size: int, *, trains_encoder: bool = True) -> int:
    """Bytes of one sample's activations that wait for the backward pass under the model's remat policy (the table of
    models.remat; twice that in float32), and of the point head's largest chunk of images with its gradients."""
    cells = (size // model.patch) ** 2
    inner = model.decoder_width or model.width
    kept = trains_encoder * model.encoder_depth * kept_bytes(model.remat, model.width, model.heads)
    kept += model.decoder_depth * kept_bytes(model.remat, inner, model.decoder_heads or model.heads)
    total = views * cells * (kept + 2 * _level_channels(model))
    if model.point_head == "dpt":
        total += 2 * 2 * views_at_a_time(views, model.dpt_chunk) * point_head_elements(model, size)
    return total * jnp.dtype(model.dtype).itemsize // 2


def point_head_elements(model: Rig3R, size: int) -> int:
    """Elements of the maps that a DPT head makes of one image."""
    if model.point_head != "dpt":
        return 0
    cells, features = (size // model.patch) ** 2, model.dpt_features
    units = sum(4**level for level in (2, 1, 0)) + 0.25  # pixels of the four levels, per patch
    # Per level: the projected map, two residual units of two convolutions (input and output), a doubled map, a 1x1.
    levels = cells * units * features * (1 + 2 * 2 * 2 + 2 * 4)
    last = cells * model.patch**2 * (features // 2 + 2 * model.dpt_last)
    return int(levels + last)


def _level_channels(model: Rig3R) -> int:
    """Channels of a token that the heads read: four depths of the decoder."""
    return 4 * (model.decoder_width or model.width)


def _sample_bytes(config: ConfigDict) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract_batch(config, 1)))


def _prediction_bytes(model: Rig3R, views: int, size: int) -> int:
    """Points with confidence and two ray maps of one sample, float32."""
    points, rays = (math.prod(grid) for grid in output_grids(model, size, size))
    return 4 * views * (4 * points + 2 * 3 * rays)
