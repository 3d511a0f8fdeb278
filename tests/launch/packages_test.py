"""What `make test-slurm` says and does where its programs are missing, with a PATH that holds only fakes."""

import subprocess

import pytest

ALL = ("slurmctld", "slurmd", "munged", "shellcheck")
PACKAGES = "slurm-wlm munge shellcheck"


@pytest.fixture
def check(repo, tmp_path):
    """check(programs that are there, user number, variables) -> (exit code, standard error, calls of apt-get)."""
    calls = tmp_path / "calls"
    calls.touch()

    def run(programs: tuple[str, ...], user: int, **variables: str) -> tuple[int, str, list[str]]:
        bodies = {**dict.fromkeys(programs, ""), "id": f"echo {user}\n", "apt-get": f'echo "$*" >> {calls}\n'}
        for name, body in bodies.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}")
            (tmp_path / name).chmod(0o755)
        script = (repo / "tests/launch/packages.sh").read_text().replace(":/usr/sbin", "")
        environment = {"PATH": str(tmp_path), **variables}
        done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr, calls.read_text().splitlines()

    return run


def test_nothing_to_do_where_all_is_there(check):
    assert check(ALL, 0, RIG3R_INSTALL_SLURM="1") == (0, "", [])


@pytest.mark.parametrize("user, variables", [(0, {}), (1000, {"RIG3R_INSTALL_SLURM": "1"})])
def test_one_line_names_what_to_install(check, user, variables):
    code, errors, calls = check(("slurmctld", "slurmd"), user, **variables)
    assert (code, calls) == (1, [])
    assert errors.startswith(f"test-slurm wants munged shellcheck: apt-get install -y {PACKAGES} ")
    assert errors.count("\n") == 1


def test_root_installs_when_told(check):
    code, errors, calls = check((), 0, RIG3R_INSTALL_SLURM="1")
    assert (code, errors) == (0, "")
    assert calls == ["update -qq", f"install -y -qq --no-install-recommends {PACKAGES}"]
