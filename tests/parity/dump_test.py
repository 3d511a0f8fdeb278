"""What the comparison of folders does with folders of all kinds, good and bad."""

import shutil
import sys

import numpy as np
import pytest

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump import driver
from rig3r_jax.parity.dump.driver import dump_command, run_dump
from rig3r_jax.parity.dump.folder import Dump, MissingArray


def write_clusters(folder, **extra):
    """A pose_metrics folder with one file: two labellings that agree but for one of six images."""
    folder.mkdir(parents=True)
    truth, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([5, 5, 1, 1, 1, 0])
    arrays = {
        "mine/gt": truth,
        "mine/pred": labels,
        "mine/hungarian_accuracy": np.float64(5 / 6),
        "mine/confusion_pred_gt": np.array([[0, 0, 1], [0, 2, 1], [2, 0, 0]]),
    }
    np.savez(folder / "clusters.npz", **arrays | extra)


def table(rows):
    return {row.name: row for row in rows}


def test_a_folder_that_agrees_exits_0_with_a_table(tmp_path, capsys):
    write_clusters(tmp_path / "pose_metrics")
    assert dump_command(tmp_path, None, None) == 0
    text = capsys.readouterr().out
    assert "== pose_metrics" in text and "clusters.npz/mine/hungarian_accuracy" in text
    assert "2 compared, all within tolerance" in text.split("== summary")[1]


def test_a_wrong_number_exits_1_and_is_named(tmp_path, capsys):
    write_clusters(tmp_path / "pose_metrics", **{"mine/hungarian_accuracy": np.float64(5 / 6 + 1e-8)})
    assert dump_command(tmp_path, None, None) == 1
    assert "1 beyond tolerance: pose_metrics/clusters.npz/mine/hungarian_accuracy" in capsys.readouterr().out
    assert dump_command(tmp_path, None, 1e-7) == 0


def test_a_looser_tolerance_does_not_excuse_integers(tmp_path):
    wrong = np.array([[0, 0, 1], [0, 2, 1], [1, 1, 0]])
    write_clusters(tmp_path / "pose_metrics", **{"mine/confusion_pred_gt": wrong})
    assert dump_command(tmp_path, None, 10.0) == 1


def test_the_folder_may_be_one_of_the_known_ones(tmp_path):
    write_clusters(tmp_path / "pose_metrics")
    for folder in (tmp_path / "pose_metrics", f"{tmp_path}/pose_metrics/"):
        assert set(run_dump(folder, None, None)) == {"pose_metrics"}
        assert set(run_dump(folder, "pose_metrics", None)) == {"pose_metrics"}


def test_only_the_named_one_is_compared(tmp_path):
    for name in ("pose_metrics", "evo_metrics"):
        write_clusters(tmp_path / name)
    assert set(run_dump(tmp_path, "pose_metrics", None)) == {"pose_metrics"}


def test_modules_of_other_folders_are_not_imported(tmp_path, monkeypatch):
    write_clusters(tmp_path / "pose_metrics")
    for name in driver.DUMPS.values():
        monkeypatch.delitem(sys.modules, name, raising=False)
    run_dump(tmp_path, None, None)
    loaded = set(driver.DUMPS.values()) & set(sys.modules)
    assert loaded == {driver.DUMPS["pose_metrics"]}


def test_what_is_not_compared_is_named_with_a_reason(tmp_path):
    write_clusters(tmp_path / "pose_metrics", **{"mine/purity": np.float64(1.0)})
    np.savez(tmp_path / "pose_metrics/own.npz", a=np.zeros(2))
    for name in ("poes_metrics", "dust3r_loss", "junk"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "loose.npz", a=np.zeros(2))
    (tmp_path / "README.md").write_text("mine")
    found = run_dump(tmp_path, None, None)
    rows = table(found["pose_metrics"])
    assert {name for name, row in rows.items() if isinstance(row, Skipped)} == {"clusters.npz/mine/purity", "own.npz/a"}
    others = {row.name: row.reason for row in found["everything else"]}
    assert set(others) == {"poes_metrics", "dust3r_loss", "junk", "loose.npz"}
    assert "another loss" in others["dust3r_loss"]
    assert "did you mean pose_metrics" in others["poes_metrics"] and "not a known name" in others["junk"]


def test_every_known_folder_has_a_module_or_a_reason():
    for name, module in driver.DUMPS.items():
        assert hasattr(__import__(module, fromlist=["compare_folder"]), "compare_folder"), name
    assert not set(driver.DUMPS) & set(driver.WITHOUT_COUNTERPART)


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("pose_metric", "did you mean pose_metrics"),
        ("lei", "did you mean lie"),
        ("zzz", "choose from"),
        ("dust3r_loss", "not compared"),
        ("lie", "holds no lie; it holds pose_metrics"),
    ],
)
def test_an_unusable_choice_is_explained(tmp_path, only, words):
    write_clusters(tmp_path / "pose_metrics")
    with pytest.raises(ValueError, match=words):
        run_dump(tmp_path, only, None)


def test_a_folder_with_nothing_to_compare_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        run_dump(tmp_path / "nowhere", None, None)
    with pytest.raises(ValueError, match="no sub-folder of a known name.*croco_tiny"):
        run_dump(tmp_path, None, None)
    (tmp_path / "dust3r_loss").mkdir()
    with pytest.raises(ValueError, match="nothing of it could be compared"):
        run_dump(tmp_path, None, None)
    (tmp_path / "pose_metrics").mkdir()
    with pytest.raises(ValueError, match="nothing of it could be compared"):
        dump_command(tmp_path, None, None)


def test_a_malformed_folder_is_one_message_with_file_and_key(tmp_path):
    (tmp_path / "evo_metrics").mkdir()
    with pytest.raises(ValueError, match=r"evo_metrics/evo\.npz is missing"):
        run_dump(tmp_path, None, None)
    np.savez(tmp_path / "evo_metrics/evo.npz", **{"a/gt_c2w": np.tile(np.eye(4), (3, 1, 1))})
    with pytest.raises(ValueError, match=r"evo\.npz holds no array 'a/est_c2w'; it holds a/gt_c2w"):
        run_dump(tmp_path, None, None)
    np.savez(
        tmp_path / "evo_metrics/evo.npz", **{f"a/{x}_c2w": np.zeros((3, 5)) for x in ("gt", "est")}, **{"a/se3/x": 0}
    )
    with pytest.raises(ValueError, match="evo_metrics does not fit its layout"):
        run_dump(tmp_path, None, None)
    (tmp_path / "evo_metrics/evo.npz").write_bytes(b"no zip at all")
    with pytest.raises(ValueError, match=r"evo\.npz is no \.npz file"):
        run_dump(tmp_path, None, None)


def test_a_malformed_folder_does_not_stop_the_others(tmp_path, capsys):
    write_clusters(tmp_path / "pose_metrics")
    (tmp_path / "lie").mkdir()
    (tmp_path / "lie/se3.npz").write_text("no arrays")
    with pytest.raises(ValueError, match=r"lie/se3.npz is no .npz file of plain arrays"):
        dump_command(tmp_path, None, None)
    assert "2 compared, all within tolerance" in capsys.readouterr().out
    write_clusters(tmp_path / "again/pose_metrics", **{"mine/hungarian_accuracy": np.float64(0.5)})
    shutil.copytree(tmp_path / "lie", tmp_path / "again/lie")
    assert dump_command(tmp_path / "again", None, None) == 1
    assert "could not be compared: " in capsys.readouterr().out


def test_a_missing_setting_is_named(tmp_path):
    (tmp_path / "meta.json").write_text('{"patch": 16}')
    with pytest.raises(MissingArray, match="meta.json lacks 'heads'; it has patch"):
        Dump(tmp_path).json("meta.json")["heads"]


def test_pickled_arrays_are_refused(tmp_path):
    (tmp_path / "evo_metrics").mkdir()
    np.savez(tmp_path / "evo_metrics/evo.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"evo\.npz is no \.npz file of plain arrays"):
        run_dump(tmp_path, None, None)


def test_golden_with_one_broken_number_exits_1(shared, tmp_path):
    folder = tmp_path / "evo_metrics"
    shutil.copytree(shared / "golden/evo_metrics", folder, copy_function=shutil.copyfile)
    with np.load(folder / "evo.npz") as file:
        arrays = dict(file)
    assert dump_command(folder, None, None) == 0
    arrays["noisy12/sim3/rpe_trans_d2_all/median"] *= 1 + 1e-8
    np.savez(folder / "evo.npz", **arrays)
    assert dump_command(folder, None, None) == 1
    del arrays["noisy12/sim3/rpe_trans_d2_all/median"]
    np.savez(folder / "evo.npz", **arrays)
    rows = run_dump(folder, None, None)["evo_metrics"]
    assert all(isinstance(row, Comparison) and row.passed for row in rows)
