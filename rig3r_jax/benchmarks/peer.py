"""The PyTorch twin as contestants, from our config, parameters and batch."""

from collections.abc import Mapping, Sequence

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.benchmarks.setting import Setting
from rig3r_jax.benchmarks.torch_step import TorchInference, TorchTraining, Twin
from rig3r_jax.models.dpt import views_at_a_time
from rig3r_jax.parity.torch_rig3r import Rig3R
from rig3r_jax.parity.torch_run import Recipe
from rig3r_jax.schema import Batch, Views
from rig3r_jax.training.rig3r.setup import build_model
from rig3r_jax.weights import rig3r
from rig3r_jax.weights.engine import export


def default_kernels(dtype: str) -> tuple[str, ...]:
    """Kernels of torch's attention that are fit for this device and type."""
    if jax.default_backend() != "gpu":
        return ("default",)
    return ("flash", "cudnn", "flash3") if dtype != "float32" else ("efficient",)


def training_peers(
    setting: Setting, params: PyTree, batch: Batch, kernels: Sequence[str] | None = None
) -> list[TorchTraining]:
    """One contestant per kernel of attention.

    Raises ValueError for what the twin does not do: several devices, micro-batches, an average of the parameters, FP8.
    """
    config = setting.config
    if setting.devices != 1:
        raise ValueError(
            f"the twin trains on one device, the mesh has {setting.devices}; show it one, by CUDA_VISIBLE_DEVICES=0"
        )
    if config.train.accumulate != 1 or config.optimizer.ema_decay:
        raise ValueError("the twin knows no micro-batches and no average of the parameters: accumulate=1, ema_decay=0")
    twins = _twins(config, export(params, rig3r.table(params)), setting.rows, setting.views, kernels)
    return [TorchTraining(twin, batch, _recipe(config)) for twin in twins]


def inference_peers(
    config: ConfigDict, weights: Mapping, views: Views, kernels: Sequence[str] | None = None
) -> list[TorchInference]:
    """One contestant per kernel of attention; `weights` are the twin's state dict."""
    rows, count = views.images.shape[:2]
    return [TorchInference(twin, views) for twin in _twins(config, weights, rows, count, kernels)]


def _twins(config: ConfigDict, weights: Mapping, rows: int, views: int, kernels: Sequence[str] | None) -> list[Twin]:
    model = build_model(config)
    fields = Rig3R.fields_of(model)
    return [
        Twin(
            fields=fields,
            weights=weights,
            dtype=config.model.dtype,
            images_per_chunk=rows * views_at_a_time(views, model.dpt_chunk),
            remat=config.model.remat,
            kernel=kernel,
        )
        for kernel in kernels or default_kernels(config.model.dtype)
    ]


def _recipe(config: ConfigDict) -> Recipe:
    options = config.optimizer
    return Recipe(
        loss=config.loss.to_dict(),
        optimizer={name: options[name] for name in ("b1", "b2", "eps", "weight_decay")},
        schedule={"peak": options.learning_rate},
        clip_norm=options.clip_norm,
        steps=0,
    )
