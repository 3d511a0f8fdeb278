"""The switch that forbids skips, seen from outside: a small test file under this conftest, with and without it."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

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
