"""The page on Python: its blocks run one after the other, as they stand; and what the API says of what is no image."""

import re
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

import rig3r_jax
from rig3r_jax.cli import main
from rig3r_jax.extras import EXTRAS
from rig3r_jax.inference.api import LoadedModel
from rig3r_jax.inference.photographs import find_photographs
from tests.inference.truth import LENSES, PLACES, RIG, drive, write_rig_images

BESIDE_THE_CORE = [name for extra in ("train", "export", "rerun", "video", "view") for name in EXTRAS[extra]]


def test_the_page_runs_on_the_core_install(repo, rig3r_run, tmp_path, monkeypatch, capsys):
    for name in BESIDE_THE_CORE:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    blocks = re.findall(r"```python\n(.*?)```", (repo / "docs/python.md").read_text(), re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(rig3r_run)
    monkeypatch.chdir(tmp_path)
    assert main(["example-rig", "my_rig", "--drives=1", "--steps=2", "--image-size=96"]) == 0
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 4 and (tmp_path / "cloud.ply").stat().st_size > 1000
    assert names["rig"].length_unit == "metre" and names["rig"].scale.source == "rig baselines"
    assert (tmp_path / "few" / "transforms.json").exists() and (tmp_path / "out" / "cameras.json").exists()
    assert repr(names["model"]).startswith("LoadedModel(Rig3R of ") and "pass 1 of 1" in capsys.readouterr().out
    assert re.fullmatch(r"Reconstruction\(6 images, 3 cameras, [\d,]+ points, in units of metre\)", repr(names["rig"]))


@pytest.fixture
def truth(tmp_path):
    """(a model that knows a rig's images, their paths, their poses)."""
    folder = write_rig_images(tmp_path / "shots")
    _, photographs = find_photographs([folder])
    poses, model = drive(photographs)
    return LoadedModel(model), photographs, poses


def test_paths_arrays_and_pil_images_give_the_same(truth):
    model, photographs, _ = truth
    paths = [photograph.path for photograph in photographs]
    known = {
        "cameras": [photograph.camera for photograph in photographs],
        "times": [float(photograph.step) for photograph in photographs],
        "intrinsics": LENSES,
        "rig": PLACES,
    }
    of_paths = model.reconstruct(paths, **known)
    upright = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
    for images in (upright, [np.asarray(image) for image in upright]):
        result = model.reconstruct(images, **known)
        np.testing.assert_array_equal(result.points.colors, of_paths.points.colors)
        np.testing.assert_allclose(result.world_from_camera, of_paths.world_from_camera, atol=1e-9)
        assert result.image_folder is None and result.images[0].name == "0000"
    of_rig = model.reconstruct(paths, cameras=known["cameras"], rig=RIG)
    np.testing.assert_allclose(of_rig.world_from_camera, of_paths.world_from_camera, atol=1e-9)


def test_given_poses_and_scale_are_kept(truth):
    model, photographs, poses = truth
    paths = [photograph.path for photograph in photographs]
    cameras = [photograph.camera for photograph in photographs]
    given = np.where(np.arange(6)[:, None, None] < 3, poses, np.nan)
    result = model.reconstruct(paths, cameras=cameras, intrinsics=LENSES, poses=given)
    np.testing.assert_array_equal(result.world_from_camera[:3], poses[:3])
    np.testing.assert_allclose(result.world_from_camera, poses, atol=1e-5)
    assert [image.pose_source for image in result.images] == ["given"] * 3 + ["fitted"] * 3
    scaled = model.reconstruct(paths, cameras=cameras, intrinsics=LENSES, scale=2.5)
    assert (scaled.scale.factor, scaled.scale.source, scaled.length_unit) == (2.5, "given", "metre")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": [1.0]}, "1 times for 6 images; give one to each, None where not known"),
        ({"intrinsics": np.eye(4)}, "intrinsics for 6 images; give one to each"),
        (
            {"intrinsics": {"rear": np.eye(3)}},
            "intrinsics of 'rear', but no image is of that camera; cameras: none has",
        ),
        ({"poses": np.zeros((6, 4, 4))}, r"pose of .* is no rigid transform"),
        ({"masks": [np.ones((3, 4))] * 6}, "is 4 x 3 pixels, its image"),
        ({"scale": -1.0}, "scale=-1.0 must be a positive number"),
        ({"rig": {"front": np.zeros((4, 4))}}, "rig_from_camera of front"),
        ({"max_views": 0}, "max_views=0 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(truth, changes, message):
    model, photographs, _ = truth
    with pytest.raises(ValueError, match=message):
        model.reconstruct([photograph.path for photograph in photographs], **changes)


def test_a_misspelt_option_is_named_beside_those_that_there_are(truth):
    with pytest.raises(TypeError, match="reconstruct has no option 'max_view'; options: wide, refine, .*max_views"):
        truth[0].reconstruct([np.zeros((8, 8, 3), np.uint8)], max_view=2)


def test_what_is_no_image_and_no_model_is_named(truth, tmp_path):
    model, _, _ = truth
    with pytest.raises(ValueError, match=r"image 0 is an array of shape \(8, 8, 3\) and float64; it must be"):
        model.reconstruct([np.zeros((8, 8, 3))])
    with pytest.raises(ValueError, match="there is no image"):
        model.reconstruct([])
    with pytest.raises(FileNotFoundError, match="nowhere is missing; a model is a workdir of"):
        rig3r_jax.load(tmp_path / "nowhere")
