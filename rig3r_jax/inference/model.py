"""Trained models behind one face: what they are given and what they give is that of `schema`."""

import functools
import typing
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.schema import Predictions, Views
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import build_model


@typing.runtime_checkable
class Model(typing.Protocol):
    """What reconstructs: one pass over the images of one scene."""

    side: int  # pixels of the square images that it takes
    usual_views: int  # images of a pass that it was trained on

    def predict(self, views: Views) -> Predictions:
        """Of one sample, numpy, neither with a batch axis."""
        ...


class Rig3RModel:
    """The Rig3R of a run's newest checkpoint."""

    def __init__(self, workdir: str | Path):
        """Raises what `read_params` raises."""
        config, self._params, self.step = read_params(workdir)
        config.model.unroll = False  # compiles sooner; a pass is slower by little
        self.side, self.usual_views = config.sampling.image_size, config.sampling.num_views
        self._model = build_model(config)

    def predict(self, views: Views) -> Predictions:
        """See `Model`."""
        batched = jax.tree.map(lambda leaf: np.asarray(leaf)[None], views)
        predictions = self._predict(self._params, batched)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], predictions)

    @functools.cached_property
    def _predict(self):
        model: Rig3R = self._model

        def predict(params: PyTree, views: Views) -> Predictions:
            return model.apply({"params": params}, views)

        return jax.jit(predict)
