"""`rig3r bench inference`: from bytes on the host to cameras on the host."""

import json
from unittest import mock

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.inference import OurInference
from rig3r_jax.benchmarks.setting import host_parameters
from rig3r_jax.parity.inputs import random_batch
from rig3r_jax.training.flags import read_config
from tests.conftest import REPO

pytest.importorskip("torch")

DEMO = f"--config={REPO}/configs/demo.py"
FLAGS = [DEMO, "--config.model.unroll=False", "--size", "48", "--repeats", "2", "--warmup", "1"]


def test_a_number_of_images_that_does_not_fit_is_a_row_and_the_run_goes_on(tmp_path):
    call = OurInference.call

    def call_of_others(self):
        if self._views.images.shape[1] == 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return call(self)

    flags = [*FLAGS, "--images", "3", "2", "--peer", "torch", "--out", str(tmp_path), "--name", "i"]
    with (
        mock.patch("torch.compile", lambda function, **_: function),  # no compiler sees through the tests' type checks
        mock.patch.object(OurInference, "call", call_of_others),
    ):
        assert cli.main(["bench", "inference", *flags]) == 0
    failed, beside, ours, theirs = json.loads((tmp_path / "i.json").read_text())["rows"]
    assert failed["s"] is None and failed["remark"] == "out of memory"
    assert beside["s"] > 0 and beside["peer / ours"] is None
    assert ours["images/s"] == pytest.approx(3 / ours["s"]) and ours["peak GB"] > 0
    assert theirs["images"] == 3 and theirs["peer / ours"] == pytest.approx(theirs["s"] / ours["s"])


def test_both_sides_return_the_same_numbers():
    from rig3r_jax.benchmarks.peer import inference_peers
    from rig3r_jax.weights import rig3r
    from rig3r_jax.weights.engine import export

    config = read_config(FLAGS[:2])
    views = random_batch(0, 1, 2, 48).views
    image_mask = np.ones_like(views.image_mask)
    image_mask[:, 1, :16, :16] = False  # one ray of nine, which leaves enough for the focal lengths
    views = views.replace(image_mask=image_mask)
    params = host_parameters(config, views)
    ours = OurInference(config, params, views)
    ours.open()
    points, confidence, *cameras = ours.call()
    (peer,) = inference_peers(config, export(params, rig3r.table(params)), views)
    peer.build(lambda function: function)
    their_points, their_confidence, *their_cameras = peer.call()
    np.testing.assert_allclose(points, their_points, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(confidence, their_confidence, rtol=1e-3)
    for camera, (focal, frame) in zip(cameras, their_cameras, strict=True):
        np.testing.assert_allclose(np.asarray(camera.intrinsics)[..., [0, 1], [0, 1]], focal, rtol=1e-2)
        np.testing.assert_allclose(camera.a_from_camera, frame, atol=1e-2)


def test_no_images_are_no_benchmark(capsys):
    assert cli.main(["bench", "inference", *FLAGS, "--images", "0"]) == 2
    assert "--images: 0 must be at least 1" in capsys.readouterr().err
