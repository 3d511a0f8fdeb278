"""The search for an interpreter, with a PATH that holds only fakes."""

import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
SHELL = "/bin/sh"

WORKS = f'exec {sys.executable} "$@"\n'
BROKEN_SHIM = "echo 'pyenv: version not installed' >&2; exit 127\n"
WRONG_VERSION = 'case "$2" in *version_info*) exit 1;; esac; exit 0\n'
NO_VENV = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"\n'
ANSWERS = "exit 0\n"


@pytest.fixture
def find(tmp_path, repo):
    """find({name: body of the fake program}) -> (exit code, standard output, lines of standard error)."""

    def run(programs: dict[str, str], **environment: str) -> tuple[int, str, list[str]]:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, body in programs.items():
            (folder / name).write_text(f"#!{SHELL}\n{body}")
            (folder / name).chmod(0o755)
        command = [SHELL, str(repo / "launch/setup.sh"), "--find"]
        done = subprocess.run(
            command, env={"PATH": str(folder), "HOME": str(tmp_path), **environment}, capture_output=True, text=True
        )
        return done.returncode, done.stdout.strip(), done.stderr.splitlines()

    return run


def test_takes_3_12_first(find):
    assert find({"python3.11": WORKS, "python3.12": WORKS, "python3": WORKS}) == (0, "python3.12", [])


def test_passes_over_a_shim_that_does_not_run(find):
    assert find({"python3.12": BROKEN_SHIM, "python3.11": WORKS}) == (0, "python3.11", [])


def test_falls_back_to_plain_python3(find):
    assert find({"python3.12": NO_VENV, "python3": WORKS, "uv": ANSWERS}) == (0, "python3", [])


@pytest.mark.parametrize("python3", [WRONG_VERSION, NO_VENV])
def test_uv_comes_last(find, tmp_path, python3):
    assert find({"python3": python3, "uv": ANSWERS}) == (0, str(tmp_path / "bin/uv"), [])


def test_no_venv_module_names_the_package(find):
    code, output, errors = find({"python3.13": WRONG_VERSION, "python3": NO_VENV, "apt-cache": ANSWERS})
    package = f"python3.{sys.version_info.minor}-venv"
    assert (code, output) == (1, "")
    assert errors == [f"python3 has no venv module: sudo apt-get install -y {package}"]


@pytest.mark.parametrize(
    "programs, remedy",
    [
        ({}, "python3 -m pip install --user uv"),
        ({"apt-cache": ANSWERS}, "sudo apt-get install -y python3.12 python3.12-venv"),
        ({"apt-cache": ANSWERS, "id": "echo 0\n"}, "here: apt-get install -y python3.12 python3.12-venv"),
        ({"apt-cache": 'case "$2" in *3.11) exit 0;; esac; exit 1\n'}, "apt-get install -y python3.11 python3.11-venv"),
        ({"apt-cache": "exit 1\n", "apt-get": ANSWERS}, "apt-get install -y python3 python3-venv"),
        ({"brew": ANSWERS}, "brew install python@3.12"),
        ({"python3": WRONG_VERSION, "python3.12": BROKEN_SHIM}, "No Python 3.11, 3.12 or 3.13 runs here"),
    ],
)
def test_no_supported_version_is_one_line_with_the_remedy(find, programs, remedy):
    code, output, errors = find(programs)
    assert (code, output, len(errors)) == (1, "", 1)
    assert remedy in errors[0]


def test_python_variable_is_taken_or_refused(find):
    programs = {"python3.12": WORKS, "mine": WRONG_VERSION}
    code, _, errors = find(programs, PYTHON="mine")
    assert code == 1
    assert errors == ["PYTHON=mine is no Python 3.11, 3.12 or 3.13 that runs: name another, or leave PYTHON out"]


@pytest.mark.parametrize(
    ("extras", "size"),
    [
        ("core", "about 250 MB (0.9 GB on disk)"),
        ("train", "about 330 MB (1.3 GB on disk)"),
        ("train,cuda13", "about 330 MB (1.3 GB on disk) and 2.5 GB of CUDA libraries"),
        ("train-tf,cuda12,dev", "about 670 MB (2.5 GB on disk) and 3.2 GB of CUDA libraries"),
        ("torch", "200 MB where the CPU build is at hand, else several GB"),
        (
            "train,torch,dev",
            "about 330 MB (1.3 GB on disk), and PyTorch: 200 MB where the CPU build is at hand, else several GB",
        ),
    ],
)
def test_setup_says_what_each_extra_downloads(tmp_path, repo, extras, size):
    for folder in ("launch", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(repo / "launch/setup.sh", tmp_path / "launch")
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!{SHELL}\ncase "$2" in *print*) echo 3.12;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        [SHELL, "launch/setup.sh", extras],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    package = "rig3r_jax" if extras == "core" else f"rig3r_jax[{extras}]"
    line = f"Installing {package} in .venv with Python 3.12: downloads {size}, takes some minutes.\n"
    assert done.stderr == line


def setup_in(folder, repo, *arguments):
    """What launch/setup.sh says in a folder without .venv and with no interpreter on the PATH."""
    (folder / "launch").mkdir()
    shutil.copy(repo / "launch/setup.sh", folder / "launch")
    command = [SHELL, "launch/setup.sh", *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments, begins",
    [
        ((), "usage: "),
        (("train", "dev"), "usage: "),
        (("foo",), "'foo' is not an extra; usage: "),
        (("train,foo,dev",), "'foo' is not an extra; usage: "),
        (("train,",), "'' is not an extra; usage: "),
        (("core,dev",), "'core' is not an extra; usage: "),
        (("dev torch",), "'dev torch' is not an extra; usage: "),
        (("",), "'' is not an extra; usage: "),
    ],
)
def test_setup_refuses_what_is_no_extra_and_names_those_of_the_project(tmp_path, repo, arguments, begins):
    done = setup_in(tmp_path, repo, *arguments)
    extras = tomllib.loads((repo / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(begins)
    assert set(line.split("extras: ")[1].split(", ")) == set(extras)
    assert not (tmp_path / ".venv").exists()


def test_setup_explains_itself(tmp_path, repo):
    done = setup_in(tmp_path, repo, "--help")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: sh launch/setup.sh EXTRA")


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_stops_at_the_remedy(tmp_path, repo, target):
    """Nothing is made, and what make adds is its own closing line."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "launch/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(repo / name, tmp_path / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname"):
        os.symlink(shutil.which(name), tools / name)
    make = shutil.which("make")
    done = subprocess.run([make, target], cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True)
    remedy, closing = done.stderr.splitlines()
    assert done.returncode == 2
    assert remedy.startswith("No Python 3.11, 3.12 or 3.13 runs here: ")
    assert closing.startswith("make: ***")
    assert not (tmp_path / ".venv").exists()


def test_make_without_a_target_prints_the_targets(repo):
    done = subprocess.run([shutil.which("make"), "-C", str(repo)], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"make {target}" in done.stdout for target in ("try", "demo", "test", "torch", "lint", "clean"))
    assert "embedded" not in done.stdout and max(map(len, done.stdout.splitlines())) <= 120
