"""Errors that a user can mend are one message; the others keep their traceback."""

import errno
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest

from rig3r_jax import cli
from rig3r_jax.cli.errors import explain, run_guarded
from rig3r_jax.cli.program import COMMANDS
from rig3r_jax.extras import EXTRAS, lack_of
from tests.conftest import REPO


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.EACCES, "Permission denied; change its permissions"),
        (errno.ENOSPC, "No space left on device; make room"),
        (errno.EROFS, "Read-only file system; give a path on a file system that can be written to"),
        (errno.EIO, "Input/output error; check the disk"),
        (errno.EFBIG, "File too large; raise the limit"),
    ],
)
def test_errors_of_the_system_name_path_reason_and_remedy(capsys, number, words):
    def work():
        raise OSError(number, os.strerror(number), "/data/x")

    assert run_guarded("rig3r evaluate", work) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"rig3r evaluate: /data/x: {words}") and len(line.splitlines()) == 1


def test_errors_with_a_message_of_their_own_keep_it():
    assert explain(FileNotFoundError("x.pth is missing")) == "x.pth is missing"
    assert explain(ValueError("a\nb")) == "a\nb"


def test_files_in_the_way_are_named(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text('{"step": 1, "loss/total": 2.0}\n')
    (tmp_path / "metrics.jsonl").write_text(file.read_text())
    for arguments, words in {
        ("charts", str(tmp_path), "--output-dir", str(file)): f"{file}: File exists; it is there already",
        ("charts", str(tmp_path), "--output-dir", f"{file}/x"): f"{file}/x: Not a directory; a part of the path is",
        ("build-data", "procedural", "--out", f"{file}/x"): f"{file}",
    }.items():
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error and len(error.splitlines()) == 1, error


def test_a_run_says_in_a_line_that_its_folder_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    arguments = ["--config=demo", f"--workdir={tmp_path}/file/run", "--config.mesh.data=1"]
    done = subprocess.run([sys.executable, "main.py", *arguments], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"main.py: {tmp_path}/file/run: Not a directory; a part of the path is a file: give another path\n"
    )


def test_an_interrupt_is_no_traceback(capsys):
    def work():
        raise KeyboardInterrupt

    assert run_guarded("rig3r charts", work) == 130
    assert capsys.readouterr().err == "rig3r charts: interrupted\n"


def test_bugs_keep_their_traceback():
    for bug in (TypeError("x"), ModuleNotFoundError("No module named 'nothing'", name="nothing")):
        with pytest.raises(type(bug)):
            run_guarded("p", lambda bug=bug: (_ for _ in ()).throw(bug))
    with pytest.raises(ValueError):
        run_guarded("p", lambda: int("x"), (OSError,))


def test_a_closed_pipe_is_no_traceback():
    code = f"{sys.executable} -m rig3r_jax.cli --help; echo $? >&2"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(["sh", "-c", code], cwd=REPO, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == "141\n"


def without(monkeypatch, *modules):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in modules else find(name, *more))


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config=demo"],
        ["evaluate", "W"],
        ["calibrate-study", "W"],
        ["build-data", "--config=demo"],
        ["bench", "data"],
    ],
    ids=" ".join,
)
def test_a_missing_extra_is_one_line_with_the_remedy(monkeypatch, capsys, arguments):
    without(monkeypatch, "grain", "tensorflow_datasets")
    assert cli.main(arguments) == 2
    name = " ".join(arguments[: 1 + (arguments[0] == "bench")])
    assert capsys.readouterr().err == (
        f"rig3r {name}: needs grain, tensorflow_datasets: pip install 'rig3r_jax[train]'   (in a clone: sh "
        "launch/setup.sh train)\n"
    )
    assert COMMANDS[name].extra == ("" if name == "evaluate" else "train")  # which is also for files, without training


def test_a_package_that_is_missed_later_is_named_with_its_extra(monkeypatch, capsys):
    def work():
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    without(monkeypatch, "torch")
    assert run_guarded("rig3r bench train", work) == 2
    assert "needs torch: pip install 'rig3r_jax[torch]'" in capsys.readouterr().err


def test_a_module_that_an_installed_package_has_lost_keeps_its_traceback(capsys):
    def work():
        raise ModuleNotFoundError("No module named 'tensorboard.gone'", name="tensorboard.gone")

    with pytest.raises(ModuleNotFoundError, match="gone"):
        run_guarded("rig3r train", work)
    assert capsys.readouterr().err == ""


def test_packages_of_several_extras_and_of_none_are_one_command(monkeypatch):
    without(monkeypatch, "torch", "tqdm", "no_such")
    assert lack_of(["tqdm", "torch", "json"]) == (
        "needs tqdm, torch: pip install 'rig3r_jax[train]' 'rig3r_jax[torch]'   (in a clone: sh launch/setup.sh "
        "train,torch)"
    )
    assert lack_of(["no_such", "torch"]) == "needs no_such, torch: pip install 'rig3r_jax[torch]' no_such"
    assert lack_of(["json"]) == ""


def test_extras_are_those_of_the_project():
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    owners, absent = importlib.metadata.packages_distributions(), {"rerun": "rerun-sdk"}
    for extra, modules in EXTRAS.items():
        declared = {normal(re.match(r"[\w.-]+", line).group()).removesuffix("-cu13") for line in extras[extra]}
        for module in modules:
            packages = {normal(name).removesuffix("-cu13") for name in owners.get(module, [absent.get(module, module)])}
            # jax itself brings the plugin, under its own extra of the same name.
            assert packages & declared or f"jax[{extra}]" in extras[extra][0], module
    assert lack_of(EXTRAS["train"]) == ""  # all are here


def normal(name):
    """A package's name as registries compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def test_devices_that_jax_does_not_find_are_a_line(monkeypatch, capsys):
    def backends():
        raise RuntimeError("Unable to initialize backend 'cuda': none. (set JAX_PLATFORMS='' to choose)")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    code = compile("def backends(work):\n    work()\n", "/site-packages/jax/_src/xla_bridge.py", "exec")
    names = {}
    exec(code, names)
    assert run_guarded("rig3r train", lambda: names["backends"](backends)) == 2
    assert capsys.readouterr().err == (
        "rig3r train: JAX does not start on JAX_PLATFORMS='cuda': Unable to initialize backend 'cuda': none; unset it, "
        "or set JAX_PLATFORMS=cpu\n"
    )
    with pytest.raises(RuntimeError, match="Unable"):
        run_guarded("rig3r train", backends)  # of anything else it is a bug


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config=demo", "--workdir="],
        ["evaluate", ""],
        ["charts", "a", "--output-dir", ""],
        ["export", "a", " "],
        ["convert", "dinov2", "", "b"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_no_current_folder(capsys, arguments):
    assert cli.main(arguments) == 2
    assert "is empty; give a path, . for the current folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["bench", "train", "--config=demo", "--batch", "0"], "argument --batch: 0 must be at least 1"),
        (["bench", "attention", "--warmup=-1"], "argument --warmup: -1 must be at least 0"),
        (["bench", "scaling", "--config=demo", "--devices", "8", "0"], "argument --devices: 0 must be at least 1"),
        (["parity", "twin", "--config=demo", "--batch", "0"], "argument --batch: 0 must be at least 1"),
        (["parity", "twin", "--config=demo", "--steps=-1"], "argument --steps: -1 must be at least 0"),
        (["bench", "data", "--views", "1e3"], "argument --views: '1e3' must be a whole number"),
    ],
)
def test_counts_that_cannot_be_are_named(capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert f": {message}; see" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "maybe"])
def test_a_shell_that_asks_for_float64_everywhere_changes_no_run(value):
    code = "import rig3r_jax.cli, jax; print(jax.numpy.ones(1, float).dtype)"
    environment = {**os.environ, "JAX_ENABLE_X64": value, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=REPO, env=environment, capture_output=True)
    assert (done.stdout, done.returncode) == (b"float32\n", 0), done.stderr


def test_a_benchmark_reads_slurms_variables_as_a_run_does(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "four")
    assert cli.main(["bench", "attention", "--shape", "1,16,1,8"]) == 2
    assert "SLURM_STEP_NUM_TASKS is 'four', which is no number; to run alone: unset" in capsys.readouterr().err
