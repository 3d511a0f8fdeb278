"""What an export writes, the reader gives back."""

import dataclasses

import numpy as np
import pytest

from rig3r_jax.exports.export import export
from rig3r_jax.exports.npz import POINTS
from rig3r_jax.exports.read import read_reconstruction
from rig3r_jax.formats.cameras_json import write_cameras
from tests.exports.reconstructions import rig_of_three, unordered


@pytest.mark.parametrize("kind", ["pinhole", "brown", "fisheye", "unified"])
@pytest.mark.parametrize("make", [rig_of_three, unordered])
def test_an_export_reads_back_as_it_was(tmp_path, make, kind):
    written = make(kind)
    export(written, tmp_path, ["cameras", "npz"])
    read = read_reconstruction(tmp_path)
    for name in POINTS:
        np.testing.assert_array_equal(getattr(read.points, name), getattr(written.points, name))
    for one, other in zip(read.images, written.images, strict=True):
        assert one.lens == other.lens and (one.name, one.camera, one.time) == (other.name, other.camera, other.time)
    np.testing.assert_array_equal(read.world_from_camera, written.world_from_camera)
    assert (read.length_unit, read.scale, read.frame) == (written.length_unit, written.scale, written.frame)
    assert [camera.name for camera in read.cameras] == [camera.name for camera in written.cameras]


def test_cameras_alone_have_no_points(tmp_path):
    cameras = dataclasses.replace(rig_of_three("pinhole"), points=None)
    export(cameras, tmp_path, ["cameras", "npz"])
    assert read_reconstruction(tmp_path).points is None
    (tmp_path / "reconstruction.npz").unlink()
    assert len(read_reconstruction(tmp_path).images) == 12


def _arrays(folder, **changes):
    path = folder / "reconstruction.npz"
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def _cut(folder):
    path = folder / "reconstruction.npz"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "cameras.json").unlink(), "has no cameras.json; give a folder that"),
        (_cut, "reconstruction.npz: does not open"),
        (lambda folder: (folder / "reconstruction.npz").write_text("x"), "reconstruction.npz: does not open"),
        (lambda folder: _arrays(folder, names=np.array(["a"])), "its images are not those of cameras.json"),
        (lambda folder: _arrays(folder, names=None), "has no array names"),
        (lambda folder: _arrays(folder, depth=None), "has no array depth"),
        (lambda folder: _arrays(folder, depth=np.zeros((12, 3, 3))), r"pixels has shape .* must be \(v, h, w, 2\)"),
        (lambda folder: _arrays(folder, colors=np.array([{}], object)), "reconstruction.npz: does not open"),
        (lambda folder: _arrays(folder, colors=np.zeros((12, 5, 6, 3))), "colors is of float64, must be of uint8"),
    ],
)
def test_a_folder_that_does_not_hold_together_is_named(tmp_path, spoil, message):
    export(rig_of_three("pinhole"), tmp_path, ["cameras", "npz"])
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_reconstruction(tmp_path)


def test_what_is_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: is no folder; give a folder"):
        read_reconstruction(tmp_path / "nowhere")
    write_cameras(tmp_path / "cameras.json", rig_of_three("pinhole"))
    with pytest.raises(ValueError, match="cameras.json: is no folder; give a folder"):
        read_reconstruction(tmp_path / "cameras.json")
