"""Files that a reconstruction writes, scored as any system's, have the numbers of the evaluation of trainings; and a
run that is evaluated on other data stays as it is."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.data.build import build_records
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.evaluator import evaluate
from rig3r_jax.evaluation.protocol import PARTLY_KNOWN, PROTOCOL_SETTINGS, Rules, write_protocol
from rig3r_jax.evaluation.protocol_data import write_data
from rig3r_jax.evaluation.protocol_make import make_protocol
from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.summary import evaluate_systems
from rig3r_jax.exports.export import export
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.inference.api import load
from rig3r_jax.training.checkpoint import restore_params
from rig3r_jax.training.config import save_config, workdir_config
from rig3r_jax.training.rig3r.elsewhere import protocol_scores
from rig3r_jax.training.rig3r.evaluate import options_of, predictor
from rig3r_jax.training.rig3r.protocol_batches import protocol_batches, views_in_setting
from rig3r_jax.training.rig3r.setup import PlacedModel
from tests import runs

OPTIONS = {"test_worlds": 2, "steps": 4, "image_size": 32, "min_cameras": 3, "max_cameras": 3}
RULES = Rules(views=6, min_cameras=2, max_cameras=3, max_stride=1)
POSES = ("RRA5", "RRA15", "RTA5", "RTA15", "RTA5_unfolded", "RTA15_unfolded", "mAA30", "mAA30_unfolded", "ATE_m")
FORMS = {"cameras": "cameras.json", "colmap": "colmap", "tum": "trajectories_tum"}  # of an export, and its path


def state(folder):
    """Of every file its bytes and times."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    """(folder of tiny.json, images/ and truth/, the protocol, its source)."""
    folder = tmp_path_factory.mktemp("own_files")
    source = make_source("procedural", "", OPTIONS)
    made = make_protocol("tiny", "procedural", source, "unseen_rigs", RULES, seed=1)
    write_protocol(folder / "tiny.json", made)
    write_data(made, source, folder)
    return folder, made, source


@pytest.fixture(scope="module")
def trained(rig3r_run, protocol):
    """On the protocol's frames the rows of the evaluation of trainings, and the pairs of every sample by each setting
    that protocols have."""
    _, made, source = protocol
    config = workdir_config(rig3r_run)
    config.sampling.num_views, config.evaluation.samples, config.evaluation.batch_size = RULES.views, 2, 2
    placed = PlacedModel(config, jax.devices()[:1])
    params, _ = restore_params(rig3r_run, placed.abstract_params)
    batches = list(protocol_batches(config, made, source))
    settings = ("none", "camera", "time", "rig", "all", "camera+time")
    options = {"with_baselines": False, "options": options_of(placed)}
    rows = evaluate(predictor(placed, params), [part.batch for part in batches], settings, **options)
    scores = protocol_scores(placed, params, made, batches)
    return rows, {setting: [scene.pairs for scene in scenes] for setting, scenes in scores.items()}


def agree(numbers, row):
    for key in POSES:
        assert numbers[key].value == pytest.approx(row[key], abs=1e-6, rel=1e-6), key
    for key, value in row["AUC"].items():
        assert numbers[key].value == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize("setting", ["none", "camera+time"])
def test_files_have_the_numbers_of_the_evaluation_of_trainings(rig3r_run, protocol, trained, tmp_path, setting):
    (folder, made, _), (rows, pairs) = protocol, trained
    model = load(rig3r_run)
    forms = FORMS if setting == "camera+time" else {"cameras": FORMS["cameras"]}  # trajectories are told by both
    for sample in made.samples:
        truth = read_cameras(folder / "truth" / sample.name / "cameras.json")
        names = [image.name for image in truth.images]
        cameras = [truth.camera_of(image).name for image in truth.images]
        result = model.reconstruct(
            [folder / "images" / sample.name / name for name in names],
            intrinsics=[image.lens for image in truth.images],
            cameras=cameras if "camera" in setting else None,
            times=[image.time for image in truth.images] if "time" in setting else None,
        )
        export(result, tmp_path / "exports" / sample.name, list(forms))
    for kind, form in forms.items():
        (tmp_path / kind).mkdir()
        for sample in made.samples:
            target = tmp_path / kind / f"{sample.name}{Path(form).suffix}"
            (tmp_path / "exports" / sample.name / form).rename(target)
        (system,) = evaluate_systems([tmp_path / kind], folder / "truth", SystemOptions()).systems
        assert {scene.matched_by for scene in system.scenes} == {"time" if kind == "tum" else "name"}
        agree(system.numbers, rows[setting])
        if setting in pairs:  # of fresh parameters few pairs are right: the errors themselves are compared too
            for scene, expected in zip(system.scenes, pairs[setting], strict=True):
                for name in ("rotation_deg", "direction_deg"):
                    np.testing.assert_allclose(getattr(scene.pairs, name), getattr(expected, name), atol=2e-3)
    assert 0 < rows[setting]["ATE_m"] and np.isfinite([rows[setting][key] for key in POSES]).all()


def test_a_run_on_a_protocol_has_a_row_for_each_setting_and_stays_as_it_is(
    rig3r_run, protocol, trained, tmp_path, capsys
):
    before, (rows, _) = state(rig3r_run), trained
    words = ["evaluate", str(rig3r_run), "--on", str(protocol[0] / "tiny.json")]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert state(rig3r_run) == before
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "out/scores.json").read_text())
    assert [system["name"] for system in content["systems"]] == list(PROTOCOL_SETTINGS)
    for system in content["systems"]:
        assert f"\n| {system['name']} | " in printed.partition("## at a glance")[2]
        row = rows.get(system["name"])
        for key in POSES if row else ():
            assert system["scores"][key]["value"] == pytest.approx(row[key], abs=1e-6, rel=1e-6), key
        for key in ("rig_id_accuracy", "rig_ari", "camera_count_error", "rig_mAA30", "rig_RRA15") if row else ():
            assert system["scores"][key]["value"] == pytest.approx(row[key], abs=1e-6), key
        assert system["scores"]["depth_abs_rel"]["value"] > 0 and system["scores"]["chamfer_m"]["value"] > 0
    assert content["systems"][-1]["scores"]["ATE_m"] != content["systems"][3]["scores"]["ATE_m"]  # half the rig is told
    assert (tmp_path / "out/accuracy_curves.png").is_file() and (tmp_path / "out/scores.md").read_text() in printed


def test_of_a_partly_known_rig_every_second_camera_by_name_is_told(rig3r_run, protocol):
    _, made, source = protocol
    config = workdir_config(rig3r_run)
    config.evaluation.batch_size = 2
    (batch,) = protocol_batches(config, made, source)
    metadata = views_in_setting(batch.batch, PARTLY_KNOWN).metadata
    for poses, has_rig in zip(batch.poses, metadata.has_rig, strict=True):
        cameras = np.array(poses.cameras)
        assert sorted(set(cameras[has_rig])) == sorted(set(cameras))[::2]
        assert not set(cameras[has_rig]) & set(cameras[~has_rig])
    assert not metadata.has_camera_id.any() and not metadata.has_time.any()
    assert (metadata.rig_from_camera[~metadata.has_rig] == np.eye(4)).all()  # nothing leaks


@pytest.fixture
def small_run(rig3r_run, tmp_path):
    """A run that evaluates two samples, and as many records as that takes: (workdir, folder of the records)."""
    workdir, records = tmp_path / "run", tmp_path / "records"
    shutil.copytree(rig3r_run, workdir)
    config = workdir_config(workdir)
    config.evaluation.samples, config.evaluation.batch_size, config.evaluation.baselines = 2, 2, False
    save_config(config, workdir / "config.json")
    (workdir / "metrics.jsonl").write_text('{"step": 1, "loss/total": 1.0}\n')
    build_records("procedural", make_source("procedural", "", OPTIONS | {"train_worlds": 0}), records, progress=False)
    return workdir, records


def test_a_run_on_records_is_evaluated_on_all_their_splits_and_stays_as_it_is(small_run, tmp_path):
    (workdir, records), out = small_run, tmp_path / "out"
    before = state(workdir), state(records)
    assert cli.main(["evaluate", str(workdir), "--on", str(records), "--out", str(out)]) == 0
    assert (state(workdir), state(records)) == before
    sets = json.loads((out / "evaluation.json").read_text())["sets"]
    assert list(sets) == ["same_rigs", "unseen_rigs"] and all(set(rows) == set(SETTINGS) for rows in sets.values())
    assert (out / "report.html").is_file()


def numbers(content, place=""):
    """Every number of a JSON file by its path."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {key: number for name, value in pairs for key, number in numbers(value, f"{place}/{name}").items()}
    return {place: content} if isinstance(content, int | float) else {}


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/evaluation", "rig3r_jax/training")
@pytest.mark.parametrize("on, file", [("protocol", "scores.json"), ("records", "evaluation.json")])
def test_two_processes_evaluate_as_one_does(small_run, protocol, tmp_path, on, file):
    workdir, records = small_run
    words = ["evaluate", workdir, "--on", protocol[0] / "tiny.json" if on == "protocol" else records, "--out"]
    assert cli.main([*map(str, words), str(tmp_path / "one")]) == 0
    two = ["launch/local.py", "--processes=2", "--", sys.executable, "-m", "rig3r_jax.cli", *words, tmp_path / "two"]
    runs.finish(runs.start(*two, JAX_NUM_CPU_DEVICES="1"))
    expected, ours = (numbers(json.loads((tmp_path / folder / file).read_text())) for folder in ("one", "two"))
    assert ours.keys() == expected.keys() and len(ours) > 100
    for key, value in expected.items():
        assert ours[key] == pytest.approx(value, abs=1e-3, rel=1e-3, nan_ok=True), key


@pytest.mark.parametrize(
    "words, message",
    [
        (["--on", "tiny.json"], "give --out FOLDER for the files"),
        (["--on", "tiny.json", "--out", "RUN/inside"], "is inside the workdir, which stays as it is"),
        (["--on", "nowhere", "--out", "out"], "--on nowhere: there is no such folder"),
        (["--on", "images", "--out", "out"], "images: holds no records"),
        (["--protocol", "tiny.json"], "--protocol is of --predictions; a run is scored by its config"),
        (["--skip-missing"], "--skip-missing is of --predictions; a run is scored by its config"),
        (["--root", "x"], "--root is of the protocol that --on gives"),
    ],
)
def test_refusals(rig3r_run, protocol, monkeypatch, capsys, words, message):
    monkeypatch.chdir(protocol[0])
    assert cli.main(["evaluate", str(rig3r_run), *(word.replace("RUN", str(rig3r_run)) for word in words)]) == 2
    assert message in capsys.readouterr().err
