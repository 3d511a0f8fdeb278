"""The command line: what it takes in any order, what its help declares, and what it refuses with exit code 2."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys

import pytest

import rig3r_jax
from rig3r_jax import cli
from rig3r_jax.cli.program import COMMANDS, parse
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.training.flags import config_names
from tests.conftest import REPO

HEAVY = {"jax", "flax", "tensorflow", "orbax", "grain", "tensorflow_datasets", "torch", "matplotlib", "cv2"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["build-data", "procedural", "seed=1", "--out", "OUT"],
        ["build-data", "procedural", "--out", "OUT", "seed=1"],
        ["build-data", "--out=OUT", "procedural", "seed=1"],
    ],
)
def test_settings_may_stand_anywhere(monkeypatch, capsys, tmp_path, arguments):
    from rig3r_jax.data import build

    seen = []
    report = build.BuildReport(path=tmp_path, splits={"train": 3}, skipped=[], reused=False)
    monkeypatch.setattr(build, "build_records", lambda *given, share: seen.append(given) or report)
    assert cli.main(arguments) == 0
    assert seen == [("procedural", Procedural(seed=1), "OUT")] and capsys.readouterr().out.endswith("train 3\n")


def test_config_flags_may_stand_anywhere_and_their_values_apart():
    words = ["--config.train.steps", "3", "W", "--noconfig.model.unroll", "--config", "demo", "--config.seed", "-1"]
    options = parse(COMMANDS["calibrate-study"], words, "p")
    assert str(options.workdir) == "W"
    assert options.flags == ["--config=demo", "--config.train.steps=3", "--noconfig.model.unroll", "--config.seed=-1"]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["--config.evaluation.enabled", "W"], ["--config.evaluation.enabled"]),
        (["-config.model.unroll", "W", "--config", "demo"], ["--config=demo", "--config.model.unroll"]),
        (["--config.evaluation.enabled", "False", "W"], ["--config.evaluation.enabled=False"]),
        (["W", "--config.evaluation.enabled"], ["--config.evaluation.enabled"]),
        (["--config.train.steps", "3", "W", "--config.name", "x"], ["--config.train.steps=3", "--config.name=x"]),
        (["--config.data.mixture[0].root", "R", "W"], ["--config.data.mixture[0].root=R"]),
        (["--config.no.key", "R", "W"], ["--config.no.key=R"]),
    ],
)
def test_a_flag_of_a_bool_leaves_the_word_after_it(words, flags):
    options = parse(COMMANDS["calibrate-study"], words, "p")
    assert str(options.workdir) == "W" and options.flags == flags


def test_underscores_are_dashes():
    options = parse(COMMANDS["train"], ["--config=demo", "--num_processes=2", "--process-id", "1"], "p")
    assert (options.num_processes, options.process_id) == (2, 1)


def test_charts_of_runs_are_drawn_and_the_others_named(tmp_path, capsys, monkeypatch):
    for run in ("old", "new"):
        (tmp_path / run).mkdir()
        rows = [{"step": step, "calibration/d2_rot_mean": 3.0, "calibration/d2_trans_mean": 2.0} for step in (1, 2, 3)]
        (tmp_path / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "charts"
    assert cli.main(["charts", "~/old", str(tmp_path / "new"), "--output_dir", "~/charts"]) == 0
    output = capsys.readouterr().out
    assert (out / "calibration.png").stat().st_size > 5_000 and "not drawn: loss_curves" in output
    assert {"old", "new"} <= set(re.findall(r"\w+", (out / "summary_table.md").read_text()))
    assert cli.main(["charts", str(tmp_path / "none"), "--output-dir", str(out)]) == 2
    assert "none" in capsys.readouterr().err


WRONG = [
    (["trian"], "unknown command 'trian'; did you mean train?"),
    (["bench", "trian"], "did you mean bench train?"),
    (["parity", "nothing"], "unknown command 'parity nothing'"),
    (["build-data", "procedural", "--out", "x", "--frob"], "--frob is not an option of this command"),
    (["build-data", "procedurl", "--out", "x"], "did you mean 'procedural'?"),
    (["build-data", "procedural", "--out", "x", "step=3"], "did you mean steps?"),
    (["build-data", "procedural", "--out", "x", "steps"], "'steps' must be key=value"),
    (["build-data", "procedural", "--out", "x", "steps=4", "steps=8"], "steps is given twice; give each option once"),
    (["build-data", "procedural"], "--out is missing"),
    (["build-data", "procedurl"], "unknown source 'procedurl'"),
    (["build-data", "procedural", "step=3"], "did you mean steps?"),
    (["build-data", "ddad", "--out", "x"], "--root is missing: the folder that holds scene_dataset"),
    (["build-data", "ddad"], "--root is missing: "),
    (["build-data"], "SOURCE is missing: one of procedural, "),
    (["build-data", "procedural", "--config=demo"], "give one of the two"),
    (["bench", "data", "--frob"], "--frob is not an option of this command"),
    (["evaluate", "x", "seed=1"], "'seed=1' is an unexpected argument; see rig3r evaluate --help"),
    (["evaluate"], "WORKDIR"),
    (["evaluate", "--workdir", "x"], "--workdir is not an option of this command; give WORKDIR by itself: rig3r eval"),
    (["evaluate", "x", "--recods=y"], "did you mean --records?"),
    (["evaluate", "/nowhere"], "/nowhere/config.json is missing: not the workdir of a run"),
    (["train", "--wokdir=x", "--config=demo"], "did you mean --workdir?"),
    (["train"], "--config is missing"),
    (["train", "--config=dmeo"], "did you mean demo? Otherwise give an installed config by its name, one of "),
    (["train", "--config=README.md"], "--config is 'README.md', which is not a Python file (.py)"),
    (["train", "--config=demo", "--config.train.step=1"], "did you mean steps?"),
    (["train", "--config=demo", "--config.train.steps=many"], "--config.train.steps is 'many'; it must be a whole "),
    (["parity", "twin", "--config=demo", "--steps=many"], "argument --steps: 'many' must be a whole number; see rig3r"),
    (["parity", "dump", "x", "--tolerance=small"], "argument --tolerance: 'small' must be a number; see rig3r parity"),
    (["calibrate-study", "x", "--config.trian.steps=1"], "did you mean train?"),
    (["bench", "scaling", "--config=demo", "--config.train.step=1"], "did you mean steps?"),
    (["parity", "twin", "--frob=1", "--config=demo"], "--frob=1 is not an option of this command"),
    (["parity", "twin", "--config.model.variant=small"], "--config is missing"),
    (["convert", "mast3r", "a.pth", "b.safetensors"], "mast3r"),
]


def test_what_is_wrong_is_one_line_and_told_before_anything_heavy_is_imported():
    code = f"""
import contextlib, io, json, sys
from rig3r_jax import cli
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = cli.main(arguments)
    print(json.dumps([code, errors.getvalue(), sorted({HEAVY!r} & set(sys.modules))]))
"""
    command = [sys.executable, "-c", code, json.dumps([arguments for arguments, _ in WRONG])]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for (arguments, message), line in zip(WRONG, done.stdout.splitlines(), strict=True):
        code, error, heavy = json.loads(line)
        assert (code, heavy) == (2, []), arguments
        assert message in error and error.startswith("rig3r") and len(error.splitlines()) == 1, (arguments, error)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_declares_every_option(capsys, name):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*name.split(), "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    assert text.startswith(f"usage: rig3r {name} ") and COMMANDS[name].help.split()[-1] in text
    assert ("--config NAME|FILE" in text) == bool(COMMANDS[name].config)
    if COMMANDS[name].config:
        assert "--config.train.steps=100" in text and ", ".join(config_names()) in text
    parser = argparse.ArgumentParser()
    COMMANDS[name].add_arguments(parser)
    for action in parser._actions:
        assert action.help and not any("_" in option for option in action.option_strings), action


def test_a_benchmark_reads_slurms_variables_as_a_run_does(capsys, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "x")
    assert cli.main(["bench", "attention"]) == 2
    assert "SLURM_STEP_NUM_TASKS is 'x', which is no number" in capsys.readouterr().err


def test_sources_are_listed_where_one_is_asked_for(capsys):
    from rig3r_jax.data.sources import SOURCES

    for name in ("build-data", "bench data"):
        with pytest.raises(SystemExit):
            cli.main([*name.split(), "--help"])
        assert ", ".join(SOURCES) in " ".join(capsys.readouterr().out.split())


def test_commands_are_listed(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [name for name in COMMANDS if any(line.startswith(f"  {name} ") for line in lines)] == list(COMMANDS)
    assert cli.main(["bench"]) == 2
    output = capsys.readouterr().out
    assert "bench scaling" in output and "evaluate" not in output
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rig3r {rig3r_jax.__version__}\n"


def test_the_twin_without_pytorch_says_what_to_install(repo, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name != "torch" and find(name, *more) or None)
    assert cli.main(["parity", "twin", f"--config={repo}/configs/demo.py"]) == 2
    assert "pip install 'rig3r_jax[torch]'" in capsys.readouterr().err


def test_what_the_user_can_mend_is_one_message_and_exit_2(capsys, tmp_path):
    assert cli.main(["convert", "dust3r", str(tmp_path / "none.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert "none.pth is missing" in capsys.readouterr().err
    assert cli.main(["parity", "dump", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert cli.main(["parity", "twin", "--config.model.variant=small"]) == 2
    assert "--config is missing" in capsys.readouterr().err
    assert cli.main(["export-torch", "nowhere", str(tmp_path / "out.pth")]) == 2
    message = "nowhere does not exist; give a workdir, or a file of `convert` or `export`"
    assert capsys.readouterr().err == f"rig3r export-torch: {message}\n"


def test_a_study_that_is_refused_leaves_no_folder(capsys, tmp_path):
    for wrong in (["--backbone", str(tmp_path / "nowhere")], ["--config.train.batch_size=0"], ["--seeds=0"]):
        assert cli.main(["calibrate-study", str(tmp_path / "study"), *wrong]) == 2
        assert capsys.readouterr().err and not list(tmp_path.iterdir())


def test_main_is_the_command_train():
    done = subprocess.run([sys.executable, "main.py", "--help"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: main.py ") and "--workdir" in done.stdout
