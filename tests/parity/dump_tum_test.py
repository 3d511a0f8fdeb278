"""The reference's TUM loader against ours: same frames, files, poses and raw intrinsics; the rest is named."""

import os
import shutil

import numpy as np

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump import tum_loader
from rig3r_jax.parity.dump.folder import Dump


def compare(folder):
    rows = list(tum_loader.compare_folder(Dump(folder)))
    return {row.name: row for row in rows if isinstance(row, Comparison)}, [r for r in rows if isinstance(r, Skipped)]


def copy_of(shared, tmp_path):
    folder = tmp_path / "tum_loader"
    shutil.copytree(shared / "golden/tum_loader", folder, copy_function=os.symlink)
    return folder


def rewrite(path, text):
    path.unlink()
    path.write_text(text)


def test_golden_tum_loader(shared):
    dump = Dump(shared / "golden/tum_loader")
    rows = list(tum_loader.compare_folder(dump))
    compared = [row for row in rows if isinstance(row, Comparison)]
    assert len(compared) == 18  # 3 recordings: times, poses, intrinsics, two lists of files, their number
    assert [row.name for row in compared if not row.passed] == []
    assert max(row.relative for row in compared) < 1e-6
    skipped = [row for row in rows if isinstance(row, Skipped)]
    assert len(skipped) == 16 and {row.reason for row in skipped} == {"reference-specific, not compared"}
    assert set(dump.unread()) <= {row.name for row in skipped}


def test_golden_tum_loader_sees_a_wrong_pose(shared, tmp_path):
    folder = copy_of(shared, tmp_path)
    lines = (path := folder / "fake_tum/rgbd_dataset_freiburg2_toy/groundtruth.txt").read_text().splitlines()
    rewrite(path, "\n".join([lines[0], *(f"{line[:-1]}{(int(line[-1]) + 1) % 10}" for line in lines[1:])]))
    compared, _ = compare(folder)
    assert [name for name, row in compared.items() if not row.passed] == [
        "loader.npz/rgbd_dataset_freiburg2_toy__extrinsics_w2c"
    ]


def test_golden_tum_loader_sees_a_frame_shifted_in_time(shared, tmp_path):
    folder = copy_of(shared, tmp_path)
    path = folder / "fake_tum/rgbd_dataset_freiburg1_toy/rgb.txt"
    rewrite(path, path.read_text().replace("1305031100.166500 ", "1305031100.166501 "))
    compared, _ = compare(folder)
    assert [name for name, row in compared.items() if not row.passed] == [
        "loader.npz/rgbd_dataset_freiburg1_toy__timestamps"
    ]


def test_golden_tum_loader_without_a_recording(shared, tmp_path):
    folder = copy_of(shared, tmp_path)
    shutil.rmtree(folder / "fake_tum/rgbd_dataset_freiburg3_toy")
    compared, skipped = compare(folder)
    assert len(compared) == 12 and all(row.passed for row in compared.values())
    assert "there is no folder fake_tum/rgbd_dataset_freiburg3_toy to read" in {row.reason for row in skipped}
    assert np.isfinite([row.relative for row in compared.values()]).all()
