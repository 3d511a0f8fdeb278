"""What keeps a run of Rig3R from starting, one line per problem: key, value, rule, remedy."""

import dataclasses
import math
from collections.abc import Container, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.geometry.recover import tells_focal
from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.models.attention import KERNELS
from rig3r_jax.models.dpt import views_at_a_time
from rig3r_jax.training.checks import least_problems, mixture_problems, negative_problems
from rig3r_jax.training.rig3r.continued import continue_problems
from rig3r_jax.training.rig3r.initial import init_problems
from rig3r_jax.training.rig3r.layout import Layout, evaluation_flags, nearest_layout
from rig3r_jax.training.rig3r.memory import DeviceMemory
from rig3r_jax.training.rig3r.setup import abstract_params, build_model
from rig3r_jax.training.trained import frozen_problems

_ADDS_IN_ANY_ORDER = ("auto", "flash3", "tokamax")  # of model.attention: auto may take the second
SMALLER = "take fewer images (sampling.num_views), or smaller ones (sampling.image_size)"


def problems(config: ConfigDict, devices: int | None, ready: Container[int] = ()) -> Iterator[str]:
    """What keeps a config from running, but for what no task can run with."""
    yield from mixture_problems(config, ready)
    sides = ("patch", "points_per_patch", "rays_per_patch", "dpt_features", "dpt_last", "dpt_chunk")
    if below := list(least_problems(config, model=sides)):
        yield from below
        return  # the others divide by these
    yield from _sampling_problems(config)
    yield from _model_problems(config)
    yield from _loss_and_evaluation_problems(config)
    yield from _mesh_problems(config, devices)
    if devices is not None:
        yield from _device_problems(config, devices)


def _sampling_problems(config: ConfigDict) -> Iterator[str]:
    pairs = {
        key: (config.sampling[key],) for key in config.sampling if key.endswith("_range") and key != "camera_id_range"
    }
    pairs["grids"] = config.sampling.grids
    wrong = [key for key, values in pairs.items() if not all(np.shape(value) == (2,) for value in values)]
    for key in wrong:
        example = "((2, 3), (3, 2)), times x cameras" if key == "grids" else "(0.8, 1.0)"
        yield f"sampling.{key} is {config.sampling[key]!r}; it must hold pairs of numbers, such as {example}"
    try:
        if not wrong:
            PipelineOptions(**config.sampling.to_dict())
    except (ValueError, TypeError) as error:
        yield f"sampling: {error}"
    if config.data.max_scenes < 0:
        yield f"data.max_scenes is {config.data.max_scenes}; it must be at least 1, or 0 for all"
    if config.sampling.image_size % config.model.patch:
        yield (
            f"sampling.image_size is {config.sampling.image_size}; it must be a multiple of "
            f"model.patch={config.model.patch}"
        )


def _model_problems(config: ConfigDict) -> Iterator[str]:
    model = config.model
    if not 0 < model.time_unit < math.inf:
        yield f"model.time_unit is {model.time_unit}; it must be a positive number of seconds"
    if model.attention in KERNELS and model.dtype != "bfloat16":
        yield f"model.attention={model.attention} works in bfloat16 only, model.dtype is {model.dtype}; take auto"
    if config.deterministic and model.attention in _ADDS_IN_ANY_ORDER:
        yield (
            f"model.attention={model.attention} takes, or may take, a kernel whose backward pass adds in any order; "
            "deterministic=True wants cudnn, chunked or dense"
        )
    try:
        built = build_model(config, backend="cpu")
    except (ValueError, TypeError) as error:
        yield str(error)
        return
    if model.get("init_from"):
        yield from init_problems(model.init_from, model)
    if config.train.continue_from:
        yield from continue_problems(config)
    if config.optimizer.frozen:
        yield from frozen_problems(abstract_params(built), config.optimizer.frozen)
    if built.decoder_depth < 4:
        yield f"model.decoder_depth is {built.decoder_depth}; at least 4, since heads read the depths L/2, 3L/4 and L"
    for side in ("points_per_patch", "rays_per_patch"):
        if model.patch % model[side]:
            yield f"model.{side} is {model[side]}; it must divide model.patch={model.patch}"
    widths = {"heads": built.width, "decoder_heads": built.decoder_width or built.width}
    for name, width in widths.items():
        heads = getattr(built, name) or built.heads
        if heads < 1 or width % (4 * heads):
            yield f"model.{name} is {heads}; at least 1, and 4 * {name} must divide the width {width} of its blocks"


def _loss_and_evaluation_problems(config: ConfigDict) -> Iterator[str]:
    evaluation = config.evaluation
    if config.loss.reduction not in ("mean", "sum"):
        yield f"loss.reduction is {config.loss.reduction!r}; it must be mean or sum"
    unknown = sorted(set(config.loss.keys()) - {field.name for field in dataclasses.fields(LossWeights)})
    if unknown:
        yield f"loss has the unknown keys {', '.join(unknown)}"
    losses = [key for key in config.loss if key not in ("reduction", *unknown)]
    yield from negative_problems(config, loss=losses, train=["skip_spikes"])
    try:
        ScoreOptions.of(evaluation.to_dict())
    except (ValueError, TypeError) as error:
        yield f"evaluation: {error}"
    yield from least_problems(config, evaluation=("samples", "batch_size"), train=["spike_window"])
    if evaluation.samples % max(evaluation.batch_size, 1):
        yield (
            f"evaluation.samples={evaluation.samples} must be a multiple of "
            f"evaluation.batch_size={evaluation.batch_size}"
        )
    yield from _focal_problems(config)


def _focal_problems(config: ConfigDict) -> Iterator[str]:
    """Ray maps too coarse for the focal lengths that the evaluation estimates from them."""
    model, evaluation = config.model, config.evaluation
    side = config.sampling.image_size // max(model.patch, 1) * model.rays_per_patch
    if evaluation.enabled and not evaluation.known_intrinsics and side > 0 and not tells_focal(side, side):
        yield (
            f"evaluation.known_intrinsics=False estimates focal lengths, for which {side}x{side} rays per image "
            f"(model.rays_per_patch={model.rays_per_patch}) are too few: --config.model.rays_per_patch={model.patch}, "
            "or --config.evaluation.known_intrinsics=True"
        )


def _mesh_problems(config: ConfigDict, devices: int | None) -> Iterator[str]:
    mesh, views = config.mesh, config.sampling.num_views
    rows = mesh.data * mesh.fsdp
    if config.evaluation.enabled and rows > 0 and config.evaluation.batch_size % rows:
        size = config.evaluation.batch_size
        rule = f"evaluation.batch_size={size} must be a multiple of mesh.data * mesh.fsdp = {rows}"
        # Of other devices than the mesh wants another line speaks, with flags for both.
        yield f"{rule}: {evaluation_flags(config, rows)}" if devices in (None, rows * mesh.frames) else rule
    if mesh.frames > 0 and views % mesh.frames:
        yield f"sampling.num_views={views} must be a multiple of mesh.frames={mesh.frames}"
    elif mesh.frames > 1 and config.model.point_head == "dpt":
        chunk = views_at_a_time(views, config.model.dpt_chunk)
        if chunk % mesh.frames:
            yield (
                f"model.dpt_chunk={config.model.dpt_chunk} makes chunks of {chunk} of {views} views, which must be a "
                f"multiple of mesh.frames={mesh.frames}: --config.model.dpt_chunk={mesh.frames}"
            )
    local = jax.local_device_count() if devices else 1
    if mesh.frames > 0 and local % mesh.frames and mesh.frames % local:
        yield (
            f"mesh.frames={mesh.frames} cuts a process of {local} devices across samples; it must divide them or be a "
            "multiple of them"
        )


def _device_problems(config: ConfigDict, devices: int) -> Iterator[str]:
    """A mesh of other devices than there are, and what their memory does not hold; with what fits."""
    own = Layout.of(config)
    if min(own.data, own.fsdp, own.frames, own.accumulate, config.train.batch_size, config.evaluation.batch_size) < 1:
        return  # which has a line of its own
    memory = DeviceMemory(config)
    if own.devices != devices:
        yield f"mesh wants {own.devices} devices, found {devices}: {_remedy(config, devices, memory)}"
    elif not memory.fits_step(own):
        samples = config.train.batch_size / own.shares / own.frames
        yield (
            f"a step with {samples:g} of {config.train.batch_size} samples on a device at a time needs about "
            f"{memory.step(own).against(memory.limit)}; {_remedy(config, devices, memory)}"
        )
    elif config.evaluation.enabled and not memory.fits_evaluation(own, config.evaluation.batch_size):
        size = config.evaluation.batch_size
        needs = memory.evaluation(own, size).against(memory.limit)
        yield f"evaluation.batch_size={size} needs about {needs}; {_remedy(config, devices, memory)}"


def _remedy(config: ConfigDict, devices: int, memory: DeviceMemory) -> str:
    """Flags that make the config fit the devices, its evaluation too; or what else to change."""
    evaluates = config.evaluation.enabled

    def fits(layout: Layout) -> bool:
        rows = layout.data * layout.fsdp
        return memory.fits_step(layout) and (not evaluates or memory.fits_evaluation(layout, rows))

    layout = nearest_layout(config, devices, fits)
    if layout is None:
        if nearest_layout(config, devices):
            return f"no mesh, train.accumulate or model.remat fits; {SMALLER}"
        batch = config.train.batch_size
        fewer = next(count for count in range(devices - 1, 0, -1) if nearest_layout(config, count))
        return (
            f"train.batch_size={batch} has no equal shares on {devices}; use {fewer} of them (CUDA_VISIBLE_DEVICES, or "
            f"fewer tasks), or a multiple of {devices} samples"
        )
    flags = [layout.flags(config)]
    if evaluates:
        rows = layout.data * layout.fsdp
        flags.append(evaluation_flags(config, rows, lambda size: memory.fits_evaluation(layout, size)))
    return " ".join(filter(None, flags)) or SMALLER
