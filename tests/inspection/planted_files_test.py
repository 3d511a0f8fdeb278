"""Mistakes planted into the files of a folder are named by the command, as whoever made the folder would see them."""

import re
import shutil

import cv2
import numpy as np
import pytest

from rig3r_jax.cli import main
from rig3r_jax.geometry import rigid

STEPS = 6


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rig") / "made"
    sizes = ["--drives=1", "--cameras=3", f"--steps={STEPS}", "--image-size=256"]
    assert main(["example-rig", str(folder), *sizes]) == 0
    return folder


def rewrite_poses(folder, change):
    """Every line `time tx ty tz qx qy qz qw` of poses.txt, its seven numbers changed."""
    (file,) = folder.glob("*/poses.txt")
    lines = []
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            continue
        time, *numbers = line.split()
        lines.append(" ".join([time, *(f"{x:.9f}" for x in change(np.array(numbers, float)))]))
    file.write_text("\n".join(lines) + "\n")


def inverted(numbers):
    rotation = rigid.rotation_from_quat_xyzw(numbers[3:])
    return np.concatenate([-rotation.T @ numbers[:3], numbers[3:] * (-1, -1, -1, 1)])


def quaternion_first(numbers):
    """With qw first, as many files have it."""
    return numbers[[0, 1, 2, 6, 3, 4, 5]]


def swap_images(folder):
    first, second = sorted(folder.glob("*/images/*"))[1:3]
    aside = first.with_name("aside")
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)


def scale_depth(folder):
    for file in folder.glob("*/depth/*/*.png"):
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED) // 5)


PLANTED = {
    "inverted poses": (
        lambda folder: rewrite_poses(folder, inverted),
        "poses (of the rig )?look like (rig|camera)_from_world read as world_from_(rig|camera)",
    ),
    "quaternion order": (
        lambda folder: rewrite_poses(folder, quaternion_first),
        "quaternions look like w x y z read as x y z w",
    ),
    "swapped images": (swap_images, "images of .* and .* look exchanged"),
    "depth scale": (scale_depth, "depth_scale looks like a fifth of that stated"),
}


def check(folder, tmp_path, capsys):
    capsys.readouterr()
    code = main(["check-data", "folder", "--root", str(folder), f"--steps={STEPS}", f"--out={tmp_path}/page.html"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("planted", PLANTED)
def test_mistakes_in_files_are_named(rig, tmp_path, capsys, planted):
    plant, words = PLANTED[planted]
    plant(shutil.copytree(rig, tmp_path / "rig"))
    code, printed = check(tmp_path / "rig", tmp_path, capsys)
    faults = [line for line in printed.splitlines() if line.startswith("FAULT")]
    assert code == 1 and any(re.search(words, fault) for fault in faults), printed


def test_the_files_as_they_are_have_no_faults(rig, tmp_path, capsys):
    code, printed = check(rig, tmp_path, capsys)
    assert code == 0 and "FAULT" not in printed, printed
    assert re.search(r"images of 4 of 4 time steps compared; \d+ of 30 pairs of images have", printed)
    assert "no faults in 1 of 1 scenes of " in printed
