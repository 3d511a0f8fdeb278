"""What a benchmark of the model runs: the config fitted to the devices there are, and a random batch."""

import argparse
import dataclasses
import os
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.extras import EXTRAS, lack_of
from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.parity.inputs import random_batch, random_parameters
from rig3r_jax.schema import Batch, Views
from rig3r_jax.training.checks import number_problems
from rig3r_jax.training.flags import read_config
from rig3r_jax.training.rig3r.setup import build_model


@dataclasses.dataclass(frozen=True)
class Setting:
    """A config whose mesh is the devices there are, and what had to be changed for that."""

    config: ConfigDict
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.config.train.batch_size

    @property
    def views(self) -> int:
        return self.config.sampling.num_views

    @property
    def size(self) -> int:
        return self.config.sampling.image_size

    @property
    def devices(self) -> int:
        mesh = self.config.mesh
        return mesh.data * mesh.fsdp * mesh.frames

    def as_json(self) -> dict[str, object]:
        """The settings that the JSON keeps."""
        return {
            "config": self.config.name,
            "batch": self.rows,
            "views": self.views,
            "size": self.size,
            "mesh": self.config.mesh.to_dict(),
            "model": self.config.model.to_dict(),
            "accumulate": self.config.train.accumulate,
            "notes": list(self.notes),
        }


def read_setting(options: argparse.Namespace, rest: Sequence[str], *, devices: int | None = None) -> Setting:
    """The config of `rest`, with --batch, --views and --size of `options` where it has them.

    A mesh that is not that of `devices` (by default all there are) becomes data parallel over them, with one sample on
    each. Raises ValueError for what cannot be timed.
    """
    config = read_config(rest).copy_and_resolve_references()
    if config.get("task", "rig3r") != "rig3r":
        raise ValueError(f"task is {config.task!r}; these benchmarks are of rig3r, such as --config=full")
    devices = devices or jax.device_count()
    mesh, notes = config.mesh, []
    meshed = mesh.data * mesh.fsdp * mesh.frames
    batch = getattr(options, "batch", None)
    if meshed != devices:
        notes.append(
            f"the config's mesh wants {meshed} devices, here {'is' if devices == 1 else 'are'} {devices}: "
            f"data={devices}, fsdp=1, frames=1" + ("" if batch else ", one sample per device")
        )
        mesh.data, mesh.fsdp, mesh.frames = devices, 1, 1
        config.train.batch_size = devices * config.train.accumulate
    config.train.batch_size = batch or config.train.batch_size
    config.sampling.num_views = getattr(options, "views", None) or config.sampling.num_views
    config.sampling.image_size = getattr(options, "size", None) or config.sampling.image_size
    problems = [*number_problems(config), *_shape_problems(config)]
    if problems:
        raise ValueError("this cannot be timed:\n" + "\n".join(f"  * {problem}" for problem in problems))
    if config.model.dtype != "float32" and jax.default_backend() == "cpu":
        notes.append(f"{config.model.dtype} on a CPU is several times slower than float32")
    return Setting(config, tuple(notes))


def _shape_problems(config: ConfigDict) -> list[str]:
    problems, sampling = [], config.sampling
    if sampling.image_size < 1 or sampling.image_size % config.model.patch:
        problems.append(f"size is {sampling.image_size}; it must be a multiple of model.patch={config.model.patch}")
    if sampling.num_views < 1 or sampling.num_views % config.mesh.frames:
        problems.append(f"views is {sampling.num_views}; it must be a multiple of mesh.frames={config.mesh.frames}")
    return problems


def host_batch(setting: Setting) -> Batch:
    """Random images, cameras and depth with every mask in use, on the host."""
    return random_batch(setting.config.seed, setting.rows, setting.views, setting.size)


def host_parameters(config: ConfigDict, views: Views) -> PyTree:
    """Random parameters that leave all predictions in range, float32, on the host; no accelerator is touched."""
    config = config.copy_and_resolve_references()
    config.model.update({"attention": "dense", "remat": "none", "unroll": False, "dtype": "float32"})
    model = build_model(config, backend="cpu")
    few = jax.tree.map(lambda leaf: leaf[:1, :1], views)
    side = 2 * model.patch
    few = few.replace(images=few.images[:, :, :side, :side], image_mask=few.image_mask[:, :, :side, :side])
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.tree.map(np.asarray, random_parameters(model, few, config.seed))


def prepare(options: argparse.Namespace) -> None:
    """Before the devices start: nearly all of a GPU's memory for JAX, on demand where --peer torch wants a share of it.

    Raises ValueError where torch is missing.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")  # 0.75 by default: 60 of 80 GB
    if options.peer:
        if lack := lack_of(EXTRAS["torch"]):
            raise ValueError(f"--peer torch {lack}")
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def attention_of(model: Rig3R) -> list[str]:
    """The implementations that the encoder and the decoder of a model attend by."""
    both = model.attend, model.attend_jointly or model.attend
    return [attend.__name__.removesuffix("_attention") for attend in both]


def out_of_memory(error: Exception) -> bool:
    """Whether a framework ran out of its device's memory."""
    text = f"{type(error).__name__}: {error}"
    return any(
        mark in text
        for mark in ("RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory", "not enough memory", "bad_alloc")
    )
