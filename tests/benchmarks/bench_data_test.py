"""`rig3r bench data`: times add up, nothing stays patched, the command prints and writes what it measured."""

import json
import time
import types

import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks import data_loading, data_sources
from tests.data.made_source import loaders, make_source


def spin(seconds):
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


def make_place():
    place = types.SimpleNamespace()
    place.inner = lambda: spin(0.02)

    def outer():
        spin(0.01)
        place.inner()

    place.outer = outer
    return place


def test_a_stage_has_its_own_time_alone():
    place = make_place()
    functions = vars(place).copy()
    with data_loading.stage_clock({"outer": [(place, "outer")], "inner": [(place, "inner")]}) as clock:
        place.outer()
        place.inner()
        with pytest.raises(TypeError):
            place.inner("too much")
    assert 0.01 <= clock.seconds["outer"] < 0.018
    assert 0.04 <= clock.seconds["inner"] < 0.05
    assert vars(place) == functions


SMALL = ["train_worlds=2", "steps=2", "min_cameras=3", "max_cameras=3", "image_size=32"]


def test_command_measures_every_stage(tmp_path, capsys):
    flags = ["--views", "6", "--size", "16", "--samples", "2", "--threads", "1", "2", "--out", str(tmp_path)]
    assert cli.main(["bench", "data", *flags, *SMALL]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "data_procedural_16.json").read_text())
    stages = {row["stage"]: row["ms per image"] for row in result["stages"]}
    assert set(stages) == {*data_loading.STAGES, "everything else", "all"}
    assert all(stages[stage] > 0 for stage in data_loading.STAGES)
    parts = sum(spent for stage, spent in stages.items() if stage != "all")
    assert parts == pytest.approx(stages["all"])
    assert result["images_per_second_per_core"] == pytest.approx(1e3 / stages["all"])
    assert [row["threads"] for row in result["rows"]] == [1, 2]
    for row in result["rows"]:
        assert row["images"] == 24 * row["threads"]
        assert row["images/s"] == pytest.approx(row["images/s per core"] * row["cores busy"])
    assert "slowest stage: " in printed and "16 such cores" in printed and "6 views of 16x16" in printed


def test_command_takes_a_config_and_built_records(repo, tmp_path, capsys):
    config, records = f"--config={repo / 'configs/demo.py'}", str(tmp_path / "records")
    assert cli.main(["build-data", "procedural", "--out", records, *SMALL, "test_worlds=0"]) == 0
    flags = ["--size=16", "--samples=1", "--threads=1", "--records", records, "--out", "", config]
    assert cli.main(["bench", "data", *flags]) == 0
    printed = capsys.readouterr().out
    assert "procedural: 6 views of 16x16, 1 samples in batches of 8" in printed and "written" not in printed


def test_every_data_set_has_a_line(monkeypatch, tmp_path, capsys):
    """With as many views as its scenes fill; what cannot be measured says why, and what is slow by what."""
    make_source(monkeypatch, {"val": loaders(0, 1)})
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(data_sources, "TARGET", 1e9)
    flags = ["--size", "16", "--samples", "2", "--out", str(tmp_path)]
    assert cli.main(["bench", "data", *flags, "--each", "procedural", "made", f"ddad={tmp_path / 'empty'}"]) == 0
    result = json.loads((tmp_path / "data_sources.json").read_text())
    rows = {row["source"]: row for row in result["rows"]}
    assert rows["made"]["views"] == 6 and rows["made"]["scenes"] == 2 and rows["made"]["stored"] == "64x64"
    assert rows["procedural"]["views"] == 24 and all(row["images/s per core"] > 0 for row in rows.values())
    printed = capsys.readouterr().out
    assert "made: below that, most of the time goes to: " in printed
    assert f"ddad: not measured: {tmp_path / 'empty'}: " in printed and len(result["not_measured"]) == 1


def test_data_sets_of_a_config_are_those_with_a_root(tmp_path, capsys):
    flags = ["--each", "--views=2", "--size=16", "--samples=1", "--out", ""]
    worlds = [f"--config.data.mixture[0].options.{option}" for option in ("train_worlds=2", "test_worlds=0", "steps=2")]
    assert cli.main(["bench", "data", *flags, "--config=demo", *worlds]) == 0
    assert "procedural       2      2" in capsys.readouterr().out
    assert cli.main(["bench", "data", *flags, "--config=full"]) == 2
    assert "no data set of the mixture has a root" in capsys.readouterr().err
    assert cli.main(["bench", "data", *flags]) == 2 and "--each wants data sets" in capsys.readouterr().err


def test_bad_input_is_named(tmp_path, capsys):
    assert cli.main(["bench", "data", "--samples", "0"]) == 2
    assert "--samples: 0 must be at least 1" in capsys.readouterr().err
    assert cli.main(["bench", "data", "--records", str(tmp_path / "none")]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert cli.main(["bench", "data", "--source", "tum"]) == 2
    assert capsys.readouterr().err.startswith("rig3r bench data: --root is missing: the folder that holds ")
    assert cli.main(["bench", "data", "--views", "24", "--size", "16", "--samples", "1", "--out", "", *SMALL]) == 2
    assert "too few for 24 views" in (error := capsys.readouterr().err) and "lower num_views (--views of" in error
