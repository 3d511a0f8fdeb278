"""Exports say what they wrote and why not, and leave nothing that looks finished but is not."""

import dataclasses
import os
import re

import numpy as np
import pytest

from rig3r_jax import extras
from rig3r_jax.exports import export as export_module
from rig3r_jax.exports.export import export
from rig3r_jax.exports.table import EXPORTS
from rig3r_jax.extras import EXTRAS
from tests.exports.reconstructions import rig_of_three, unordered


def test_what_is_cheap_is_written_by_default_and_what_does_not_apply_is_said(tmp_path):
    pytest.importorskip("pycolmap")
    pytest.importorskip("trimesh")
    report = export(unordered("unified"), tmp_path / "out")
    assert list(report.written) == ["cameras", "tum", "kitti", "ply", "glb", "png", "report", "npz"]
    assert report.skipped.keys() == {"colmap", "rig", "transforms"}
    assert report.skipped["rig"] == "no camera has a place in a rig"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {EXPORTS[kind].path for kind in report.written}
    assert report.left_out.keys() <= {"edges", "confidence"}
    lines = "\n".join(report.lines())
    assert "no rig_config.json: no camera has a place in a rig" in lines and "points left out: " in lines


def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name in ("trimesh", "rerun") else True)
    reconstruction = dataclasses.replace(rig_of_three("pinhole"), points=None)
    report = export(reconstruction, tmp_path / "out")
    assert report.skipped["glb"].startswith("needs trimesh: pip install 'rig3r_jax[export]'")
    with pytest.raises(ValueError, match=re.escape("export of rrd needs rerun: pip install 'rig3r_jax[rerun]'")):
        export(reconstruction, tmp_path / "out", ["cameras", "rrd"])


def test_packages_of_kinds_are_those_of_extras():
    offered = {package for packages in EXTRAS.values() for package in packages}
    assert {package for kind in EXPORTS.values() for package in kind.requires} <= offered


@pytest.mark.parametrize(
    "kinds, message", [(["ply", "obj"], "export of obj is not known; kinds: cameras, "), ([], "kinds")]
)
def test_unknown_kinds_are_refused_before_anything_is_written(tmp_path, kinds, message):
    with pytest.raises(ValueError, match=message):
        export(rig_of_three("pinhole"), tmp_path / "out", kinds)
    assert not list(tmp_path.iterdir())


def test_cameras_that_no_file_may_hold_are_refused(tmp_path):
    reconstruction = rig_of_three("pinhole")
    images = (dataclasses.replace(reconstruction.images[0], name="../up.jpg"), *reconstruction.images[1:])
    with pytest.raises(ValueError, match=r"name '../up.jpg' is no plain relative path"):
        export(dataclasses.replace(reconstruction, images=images), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, must be a folder"):
        export(reconstruction, tmp_path / "file")


def test_no_points_left_is_told_with_the_reasons(tmp_path):
    reconstruction = rig_of_three("pinhole")
    points = dataclasses.replace(reconstruction.points, depth=-reconstruction.points.depth)
    empty = dataclasses.replace(reconstruction, points=points)
    with pytest.raises(ValueError, match="export of ply: no point is left: "):
        export(empty, tmp_path / "out", ["ply"])
    report = export(empty, tmp_path / "out", ["cameras", "png", "npz"])
    assert list(report.written) == ["cameras", "png", "npz"]


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_nothing_that_looks_finished(tmp_path, monkeypatch, there):
    """The folder that is not there does not appear; in one that is, the file of before stays."""
    out = tmp_path / "out"
    if there:
        export(rig_of_three("pinhole"), out, ["cameras", "tum"])
        before = (out / "cameras.json").read_bytes()

    def broken(job, path):
        (path / "half").write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(export_module.EXPORTS, "tum", dataclasses.replace(EXPORTS["tum"], write=broken))
    with pytest.raises(OSError, match="disk full"):
        export(rig_of_three("pinhole"), out, ["tum", "cameras"])
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if there else [])
    if there:
        assert (out / "cameras.json").read_bytes() == before
        assert {path.name for path in (out / "trajectories_tum").iterdir()} == {
            f"{n}.tum" for n in ("front", "left", "right", "rig")
        }


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path):
    """A process that ends at once, as by kill -9, while the second kind is written."""
    if (child := os.fork()) == 0:
        EXPORTS["tum"] = dataclasses.replace(EXPORTS["tum"], write=lambda job, path: os._exit(9))
        export(rig_of_three("pinhole"), tmp_path / "out", ["cameras", "tum"])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and left.name.endswith(".tmp")


def test_again_replaces_files_and_folders_whole(tmp_path):
    reconstruction = rig_of_three("pinhole")
    export(reconstruction, tmp_path / "out", ["cameras", "kitti"])
    (tmp_path / "out" / "mine.txt").write_text("mine")
    fewer = dataclasses.replace(reconstruction, images=reconstruction.images[::3], points=None)
    export(fewer, tmp_path / "out", ["cameras", "kitti"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cameras.json", "trajectories_kitti", "mine.txt"}
    files = {path.name for path in (tmp_path / "out" / "trajectories_kitti").iterdir()}
    assert files == {"front.txt", "front.times.txt", "rig.txt", "rig.times.txt"}


def test_equal_reconstructions_make_equal_files(tmp_path):
    kinds = [kind for kind in EXPORTS if kind not in ("usdz", "rrd", "exr", "colmap", "glb")]
    for name in "ab":
        export(rig_of_three("brown"), tmp_path / name, kinds)
    one, other = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab"
    )
    assert one == other and len(one) > 30
    assert np.load(tmp_path / "a" / "reconstruction.npz")["names"][0] == "front/000.jpg"
