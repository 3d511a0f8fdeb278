"""The switch that forbids skips, seen from outside: a small test file under this conftest, with and without it."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from tests.conftest import LONGEST
from tests.sweeps import EVERY

CASES = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.importorskip("no_such_module_anywhere")

def test_wants_vectors(shared):
    pass

@pytest.mark.xfail
def test_expected_failure():
    assert False
"""

WHOLE_FILE = "import pytest\npytest.skip('this file has no tool', allow_module_level=True)\n"


@pytest.fixture
def outcome(tmp_path, repo):
    """outcome(source, no_skips) -> what pytest prints of a test file that lies alone under our conftest."""

    def run(source: str, no_skips: str) -> str:
        shutil.copy(repo / "tests/conftest.py", tmp_path / "conftest.py")
        pathlib.Path(tmp_path, "case_test.py").write_text(source)
        environment = {**os.environ, "RIG3R_NO_SKIPS": no_skips, "RIG3R_SHARED": str(tmp_path / "absent")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsf", "--color=no", "case_test.py"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    return run


def test_skips_carry_their_reason(outcome):
    printed = outcome(CASES, no_skips="0")
    assert "1 passed, 2 skipped, 1 xfailed" in printed
    assert "RIG3R_SHARED names another folder" in printed


def test_switch_turns_skips_into_failures_with_the_same_reason(outcome):
    printed = outcome(CASES, no_skips="1")
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in printed
    assert "no_such_module_anywhere" in printed
    assert "RIG3R_SHARED names another folder" in printed


def test_switch_reaches_a_file_that_skips_itself(outcome):
    assert "1 skipped" in outcome(WHOLE_FILE, no_skips="0")
    printed = outcome(WHOLE_FILE, no_skips="1")
    assert "1 error" in printed
    assert "this file has no tool" in printed


SWEEP = """
import pytest

@pytest.mark.sweep("package")
def test_repeats():
    pass
"""


def test_a_sweep_runs_until_it_is_noted_and_again_once_what_it_covers_changes(tmp_path, repo):
    for name in ("tests/sweeps.py", *EVERY):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (repo / name).is_dir() else shutil.copy
        copy(repo / name, tmp_path / name)
    (tmp_path / "tests/case_test.py").write_text(SWEEP)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/code.py").write_text("x = 1")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = sweep: x\n")

    def run(everything: str = "0") -> str:
        environment = {**os.environ, "RIG3R_NO_SKIPS": "1", "RIG3R_SWEEP": everything, "PYTHONPATH": str(tmp_path)}
        for name in [name for name in environment if name.startswith("PYTEST_XDIST")]:
            del environment[name]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "tests/case_test.py"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    assert "1 passed" in run() and "1 passed" in run()  # not noted: it was not asked for
    assert "1 passed" in run("1")
    assert "1 deselected" in run() and "1 passed" in run("1")
    (tmp_path / "package/code.py").write_text("x = 2")
    assert "1 passed" in run()


def test_programs_are_compiled_once_for_all_processes():
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"]
    jax.jit(lambda x: x + 1)(1.0)
    assert any(pathlib.Path(jax.config.jax_compilation_cache_dir).glob("jit*"))


def test_the_longest_files_are_there(repo):
    assert not [name for name in LONGEST if not (repo / "tests" / name).is_file()]
