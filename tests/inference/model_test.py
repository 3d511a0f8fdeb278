"""The Rig3R of a workdir, as the commands that reconstruct take it."""

import jax
import numpy as np
import pytest

from rig3r_jax.configs import demo
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.models.rig3r import Rig3RModel
from rig3r_jax.schema import Views
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.setup import PlacedModel


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """One with a checkpoint of fresh parameters, and the run."""
    folder, config = tmp_path_factory.mktemp("run"), demo.get_config()
    config.sampling.image_size, config.model.encoder_depth, config.model.decoder_depth = 32, 1, 4
    run = PlacedModel(config, jax.devices()[:1])
    save_config(config, folder / "config.json")
    checkpoints = Checkpoints(folder, 1)
    checkpoints.save(3, run.init(), {"seed": 0, "next_sample": 0})
    checkpoints.wait()
    checkpoints.close()
    return folder, run


def test_a_workdir_predicts_what_its_run_predicts(workdir):
    folder, run = workdir
    model = Rig3RModel(folder)
    assert isinstance(model, Model) and model.input_size([(480, 640)]) == (32, 32) and model.name.endswith("step 3")
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    views = Views.of_images(images[None])
    one = jax.tree.map(lambda leaf: leaf[0], views)
    expected = run.predict(run.init().params, views)
    for ours, theirs in zip(jax.tree.leaves(model.predict(one)), jax.tree.leaves(expected), strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_allclose(ours, theirs[0], rtol=2e-4, atol=2e-5)


def test_what_is_no_workdir_is_named(tmp_path):
    with pytest.raises(ValueError, match="not the workdir of a run"):
        Rig3RModel(tmp_path)
