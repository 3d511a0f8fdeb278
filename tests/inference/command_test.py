"""`rig3r reconstruct` from images to files, through a model that knows the truth."""

import json

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.exports.table import EXPORTS
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.geometry import rigid
from rig3r_jax.inference.photographs import find_photographs
from tests.inference.truth import PLACES


def leftovers(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("shots", "rig_config.json"))


def test_the_command_writes_all_that_is_cheap(rig, tmp_path, capsys):
    _, poses, _, words = rig
    assert cli.main([*words, f"--out={tmp_path}/out"]) == 0
    printed = capsys.readouterr().out
    cheap = {kind: EXPORTS[kind].path for kind in EXPORTS if EXPORTS[kind].default}
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert set(written) <= set(cheap.values()) and {"cameras.json", "points.ply", "reconstruction.npz"} <= set(written)
    assert (
        "12 images at 64 x 64 pixels, one pass: " in printed and "lengths are metres, by the rig's baselines" in printed
    )
    assert str(tmp_path / "out" / "cameras.json") in printed and leftovers(tmp_path) == ["out"]
    assert printed.endswith(f"\nto look at it: rig3r view {tmp_path}/out, or open report.html in a browser\n")
    cameras = read_cameras(tmp_path / "out" / "cameras.json")
    np.testing.assert_allclose(cameras.world_from_camera, rigid.invert(poses[0]) @ poses, atol=1e-6)
    assert {image.lens_source for image in cameras.images} == {"given"}
    assert {image.pose_source for image in cameras.images} == {"fitted"}


def test_what_cannot_be_done_is_one_line_and_nothing_is_left(rig, tmp_path, capsys):
    folder, _, _, words = rig

    def refused(*more):
        assert cli.main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    (tmp_path / "there").mkdir()
    assert "exists already; give a new folder" in refused(f"--out={tmp_path}/there")
    out = f"--out={tmp_path}/out"
    assert "export of glbb is not known; kinds: cameras, colmap" in refused(out, "--export=ply,glbb")
    assert "is no amount of memory" in refused(out, "--max-memory=much")
    assert "12 images in windows of 2: each must share 2" in refused(out, "--max-views=2")
    (folder / "images/back/001.png").write_bytes(b"no image")
    assert "back/001.png: does not decode" in refused(out)
    assert "--every=0 must be at least 1" in refused(out, "--every=0")
    assert "--fps=0.0 must be above 0" in refused(out, "--fps=0")
    assert "argument --fps: 'fast' must be a number of frames per second, or all" in refused(out, "--fps=fast")
    assert "time_unit='h' must be one of auto, s, ms, us, ns" in refused(out, "--time-unit=h")
    assert leftovers(tmp_path) == ["there"]


def test_a_model_that_is_none_is_told_before_images_are_read(tmp_path, capsys):
    assert cli.main(["reconstruct", "nowhere", f"--model={tmp_path}/run", f"--out={tmp_path}/out"]) == 2
    assert "run is missing; a model is a workdir of" in capsys.readouterr().err


def test_nothing_is_printed_where_nothing_is_known(rig, tmp_path, capsys):
    folder, *_ = rig
    words = ["reconstruct", f"{folder}/images/front", "--model=run", f"--out={tmp_path}/out", "--export=ply"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling truth ..." and "4 images at 64 x 64 pixels, one pass" in lines[1]
    assert "memory; compiled in 0 s" in lines[1] and not any("rig3r view" in line for line in lines)


def test_a_bad_image_is_left_out_and_named_where_asked(rig, tmp_path, capsys):
    folder, _, _, words = rig
    (folder / "images/back/001.png").write_bytes(b"no image")
    assert cli.main([*words, f"--out={tmp_path}/out", "--skip-bad", "--export=cameras"]) == 0
    assert "1 left out:\n" in (printed := capsys.readouterr().out) and "back/001.png" in printed
    names = [image.name for image in read_cameras(tmp_path / "out" / "cameras.json").images]
    assert len(names) == 11 and "back/001.png" not in names


def test_a_dry_run_tells_and_writes_nothing(rig, tmp_path, capsys):
    assert cli.main([*rig[3], f"--out={tmp_path}/out", "--dry-run", "--max-views=6"]) == 0
    assert "12 images at 64 x 64 pixels, passes of 6 that overlap: 0 MB of " in capsys.readouterr().out
    assert rig[2].passes == 0 and leftovers(tmp_path) == []


def test_windows_of_different_units_are_joined_exactly(rig, tmp_path, capsys):
    _, poses, truth, words = rig
    assert cli.main([*words, f"--out={tmp_path}/out", "--max-views=6", "--export=cameras,npz"]) == 0
    assert truth.passes > 2 and f"pass 2 of {truth.passes}: 6 images" in capsys.readouterr().out
    cameras = read_cameras(tmp_path / "out" / "cameras.json")
    np.testing.assert_allclose(cameras.world_from_camera, rigid.invert(poses[0]) @ poses, atol=1e-4)
    with np.load(tmp_path / "out" / "reconstruction.npz") as arrays:
        shown = arrays["on_image"]
        away = np.linalg.norm(arrays["points_world"] - arrays["world_from_camera"][:, None, None, :3, 3], axis=-1)
        np.testing.assert_allclose(away[shown], 5.0, rtol=1e-4)  # each in its own pass's unit, all in metres
    assert leftovers(tmp_path) == ["out"]


def test_a_run_that_was_stopped_goes_on_with_the_passes_that_it_has(rig, tmp_path, monkeypatch, capsys):
    _, _, truth, words = rig
    estimate = type(truth).estimate

    def stops(self, *told):
        if self.passes == 2:
            raise KeyboardInterrupt
        return estimate(self, *told)

    words = [*words, f"--out={tmp_path}/out", "--max-views=6", "--export=cameras"]
    with monkeypatch.context() as patch:
        patch.setattr(type(truth), "estimate", stops)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            raise SystemExit(cli.main(words))
    assert leftovers(tmp_path) == ["out.passes"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.count("from before") == 2 and leftovers(tmp_path) == ["out"]


def test_given_poses_are_held_to_the_last_digit(rig, tmp_path):
    folder, poses, _, words = rig
    world = rigid.from_rotation_translation(PLACES["left"][:3, :3], np.array([100.0, -20.0, 3.0]))
    _, photographs = find_photographs([folder])
    lines = ["name,tx,ty,tz,qx,qy,qz,qw"]
    for photograph, pose in zip(photographs[:5], poses, strict=False):
        given = world @ pose
        numbers = [*given[:3, 3], *rigid.quat_xyzw_from_rotation(given[:3, :3])]
        lines.append(",".join([photograph.name, *map(repr, map(float, numbers))]))
    (tmp_path / "poses.csv").write_text("\n".join(lines) + "\n")
    assert cli.main([*words, f"--out={tmp_path}/lenses", "--export=cameras"]) == 0
    words = [word for word in words if not word.startswith("--rig")] + [f"--cameras={tmp_path}/lenses/cameras.json"]
    assert cli.main([*words, f"--out={tmp_path}/out", f"--poses={tmp_path}/poses.csv", "--export=cameras"]) == 0
    cameras = read_cameras(tmp_path / "out" / "cameras.json")
    assert [image.pose_source for image in cameras.images] == ["given"] * 5 + ["fitted"] * 7
    np.testing.assert_allclose(cameras.world_from_camera, world @ poses, atol=1e-5)
    np.testing.assert_allclose(cameras.world_from_camera[:5], (world @ poses)[:5], atol=1e-12)
    assert (
        cameras.scale.source == "given poses" and json.loads((tmp_path / "out" / "cameras.json").read_text())["scale"]
    )
