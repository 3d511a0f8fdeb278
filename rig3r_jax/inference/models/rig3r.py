"""The Rig3R of a training run."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.estimate import estimate_of
from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.schema import Estimate, Predictions, Views
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import build_model


class Rig3RModel:
    """The Rig3R of a run's newest checkpoint. See `protocol.Model`."""

    licence = None
    takes_rig = True
    fill = 0

    def __init__(self, workdir: str | Path):
        """Raises what `read_params` raises."""
        config, self._params, step = read_params(workdir)
        config.model.unroll = False  # compiles sooner; a pass is slower by little
        self.name = f"Rig3R of {Path(workdir).absolute().name}, step {step}"
        self.usual_views = config.sampling.num_views
        self._side, self._alpha = config.sampling.image_size, config.loss.alpha
        self._model = build_model(config)

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The square that it was trained on."""
        return self._side, self._side

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """See `Model`."""
        return estimate_of(self.predict(views), np.asarray(views.image_mask), lenses, wide, self._alpha)

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """See `Model`."""
        raise NotImplementedError

    def predict(self, views: Views) -> Predictions:
        """Of one sample, numpy, neither with a batch axis."""
        batched = jax.tree.map(lambda leaf: np.asarray(leaf)[None], views)
        predictions = self._predict(self._params, batched)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], predictions)

    @functools.cached_property
    def _predict(self):
        model: Rig3R = self._model

        def predict(params: PyTree, views: Views) -> Predictions:
            return model.apply({"params": params}, views)

        return jax.jit(predict)
