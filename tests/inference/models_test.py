"""Models of every family behind one face: told by their content, with covariances and descriptors."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_models import SCALE, views_of

from rig3r_jax import cli
from rig3r_jax.geometry.depth_estimate import estimate_of_depth
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.models.readings import Spread, VggtReading
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.uncertainty.backbone import DIGEST_FILE
from rig3r_jax.weights import vggt
from rig3r_jax.weights.convert import load_params, save_params
from rig3r_jax.weights.files import write_tensors


@pytest.mark.parametrize(
    "sizes, seen",
    [
        ([(480, 640)], (392, 518)),
        ([(640, 480)] * 2, (518, 392)),
        ([(1080, 1920)] * 3 + [(640, 480)], (294, 518)),
        ([(480, 640), (640, 480)], (518, 518)),
        ([(10, 4000)], (14, 518)),
    ],
)
def test_vggt_sees_whole_patches_of_the_middle_aspect(sizes, seen):
    assert VggtReading(518, 14).input_size(sizes) == seen
    assert VggtReading(518, 14, square=True).input_size(sizes) == (518, 518)


def test_vggt_estimates_what_the_network_says(vggt_file):
    model = open_model(vggt_file)
    assert isinstance(model, Model) and model.fill == 255 and not model.takes_rig and model.most_views is None
    assert "not this project's" in model.licence and model.name == "VGGT of vggt.safetensors"
    size = model.input_size([(480, 640)])
    assert size == (24, 32)
    views = views_of(3, *size)
    network, params = vggt.load(vggt_file, attention="dense")
    output = jax.jit(network.apply)({"params": params}, views.images[None])
    expected = estimate_of_depth(
        *(np.asarray(x) for x in (output.camera.encoding[-1, 0], output.depth[0], output.depth_confidence[0])),
        [None] * 3,
    )
    found = model.estimate(views, [None] * 3, [False] * 3)
    np.testing.assert_allclose(found.world_from_camera, expected.world_from_camera, atol=1e-4)
    np.testing.assert_allclose(found.points, expected.points, rtol=1e-3, atol=1e-3)
    assert found.points.shape == (3, 24, 32, 3) and found.confidence.min() >= 1
    assert model.notes and found.covariance is None  # log-variances of a length that no one states
    with pytest.raises(ValueError, match="predicts pinholes"):
        model.estimate(views, [None] * 3, [True, False, False])


def test_a_checkpoint_of_pytorch_is_the_converted_file(model_folder, vggt_file):
    params, metadata = load_params(vggt_file)
    path = model_folder / "checkpoint.bin"
    write_tensors(path, {f"module.{name}": x for name, x in vggt.export_tensors(params, metadata).items()})
    views = views_of(2, 24, 32)
    ours, theirs = (open_model(place).outputs(views) for place in (path, vggt_file))
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


def test_a_rig3r_from_its_file_is_that_of_its_run(model_folder, rig3r_run):
    path = model_folder / "rig3r.safetensors"
    assert cli.main(["export", str(rig3r_run), str(path)]) == 0
    of_run, of_file = open_model(rig3r_run), open_model(path)
    assert of_file.usual_views == of_run.usual_views == 6 and of_file.input_size([(9, 9)]) == (32, 32)
    assert of_file.licence is None and "run, step 2" in of_file.name
    views = views_of(2, 32, 32)
    for ours, theirs in zip(of_file.outputs(views).values(), of_run.outputs(views).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert of_file.estimate(views, [None] * 2, [False] * 2).error is not None


@pytest.mark.parametrize("head", ["rig3r_head", "vggt_head"])
def test_heads_give_covariances_in_the_unit_of_the_estimate(head, request, model_folder):
    workdir = request.getfixturevalue(head)
    model = open_model(workdir)
    size = model.input_size([(480, 640)])
    assert size == (32, 32) and "head" in model.notes[0]
    found = model.estimate(views_of(3, *size), [None] * 3, [False] * 3)
    assert found.covariance.shape == (3, 6, 6) and not found.covariance[0].any()
    np.testing.assert_array_equal(found.world_from_camera[0], np.eye(4))
    assert (np.linalg.eigvalsh(found.covariance[1:]) > 0).all()
    spread = model.reading.spread
    assert spread.metres_per_unit == pytest.approx(SCALE, rel=1e-5)
    metres = dataclasses.replace(spread, metres_per_unit=1.0).covariance(model.outputs(views_of(3, *size))["spread"])
    to_metres = np.repeat([SCALE, 1.0], 3)
    np.testing.assert_allclose(
        np.outer(to_metres, to_metres) * found.covariance, np.array([0, 1, 1])[:, None, None] * metres, rtol=1e-5
    )


def test_a_head_inside_its_vggt_says_what_it_said_in_its_workdir(model_folder, vggt_head):
    path = model_folder / "with_head.safetensors"
    assert cli.main(["export", str(vggt_head), str(path)]) == 0
    views = views_of(3, 32, 32)
    ours, theirs = (open_model(place).estimate(views, [None] * 3, [False] * 3) for place in (path, vggt_head))
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-3)


def test_covariances_are_those_of_sampled_residuals():
    """true = predicted exp(-r) with r of the head's law, in the unit of the predictions."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(-1, 0.3, (2, 6)), rng.normal(0, 0.4, (2, 15))], axis=1)
    spread = Spread(NllOptions(parameterisation="cholesky"), 2.0)
    found = spread.covariance(numbers)[1]
    factor = np.diag(np.exp(-0.5 * numbers[1, :6]))
    below = np.eye(6)
    below[np.tril_indices(6, -1)] = numbers[1, 6:]
    residual = np.linalg.solve((factor @ below).T, rng.normal(size=(6, 200_000)))
    residual[:3] /= 2.0
    np.testing.assert_allclose(np.cov(-residual), found, rtol=0.05, atol=0.02 * found.max())


def test_descriptors_are_unit_vectors_in_any_number(rig3r_run, vggt_file):
    for path, width in ((rig3r_run, 64), (vggt_file, 64)):
        model = open_model(path)
        images = views_of(11, *model.input_size([(480, 640)])).images
        found = model.describe(images)
        assert found.shape == (11, width) and found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(model.describe(images[8:9]), found[8:9], atol=1e-5)
        assert np.linalg.norm(found[0] - found[1]) > 1e-4


def test_what_is_no_model_is_told_in_one_line(model_folder, rig3r_run, vggt_file, exported, tmp_path):
    (tmp_path / "empty").mkdir()
    write_tensors(tmp_path / "other.safetensors", {"a": np.zeros(3, np.float32)})
    (tmp_path / "notes.txt").write_text("hello")
    save_params(tmp_path / "dino.safetensors", {"a": np.zeros(3)}, {"kind": "dinov2"})
    save_params(tmp_path / "old.safetensors", {"a": np.zeros(3)}, {"kind": "rig3r", "fields": "{}", "source": "r"})
    for path, words in {
        "missing": "is missing; a model is a workdir",
        "empty": "a folder with neither config.json nor model.json",
        "other.safetensors": "1 tensors, none with a name of VGGT's trunk",
        "notes.txt": "notes.txt: ",
        "dino.safetensors": "is a file of dinov2, which does not reconstruct",
        "old.safetensors": "write it again: rig3r export",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
            open_model(tmp_path / path)
        assert str(tmp_path / path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="leave the size out"):
        open_model(rig3r_run, side=64)
    with pytest.raises(ValueError, match="whole patches of 8 pixels, not 30"):
        open_model(vggt_file, side=30)
    with pytest.raises(ValueError, match="exported already"):
        open_model(exported[vggt_file], portable=True)
    assert open_model(vggt_file, side=48).input_size([(480, 640)]) == (32, 48)


def test_heads_whose_backbone_or_windows_are_gone(model_folder, vggt_head):
    cameras = vggt_head / "features" / "train.npz"
    cameras.rename(cameras.with_suffix(".away"))
    try:
        with pytest.raises(ValueError, match="the windows that its head was trained on"):
            open_model(vggt_head)
    finally:
        cameras.with_suffix(".away").rename(cameras)
    digest = (vggt_head / DIGEST_FILE).read_text()
    (vggt_head / DIGEST_FILE).write_text("another")
    try:
        with pytest.raises(ValueError, match="trained on another backbone"):
            open_model(vggt_head)
    finally:
        (vggt_head / DIGEST_FILE).write_text(digest)
