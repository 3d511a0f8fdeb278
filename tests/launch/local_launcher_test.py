"""launch/local.py, with a program that stands in for main.py."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

RUNNING = "] running"


@pytest.fixture
def launch(repo):
    """launch(flags of local.py, flags of the program, variables) -> the process, its output piped."""

    def start(launcher: str = "", program: str = "", **variables: str) -> subprocess.Popen:
        command = [sys.executable, "launch/local.py", "--processes=2", *launcher.split(), "--"]
        command += [sys.executable, "tests/launch/standin.py", *filter(None, [program])]
        return subprocess.Popen(
            command,
            cwd=repo,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
    """Exit code and sorted lines."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, sorted(output.splitlines())


def variables_of(lines: list[str], rank: int) -> dict[str, str]:
    """The environment that a process printed."""
    found = [re.fullmatch(rf"\[{rank}\] (\w+)=(.*)", line) for line in lines]
    return dict(match.groups() for match in found if match)


def test_each_process_is_told_who_it_is_and_lines_carry_its_number(launch):
    code, lines = ended(launch(program="--config=c"))
    assert code == 0 and len(lines) == 2
    for rank, line in enumerate(lines):
        found = re.fullmatch(
            rf"\[{rank}\] run 0 rank {rank} begins --config=c --coordinator=127.0.0.1:(\d+) --num-processes=2 "
            rf"--process-id={rank}",
            line,
        )
        assert found, line
    assert len({re.search(r"127.0.0.1:\d+", line).group() for line in lines}) == 1


def test_cpu_devices_are_simulated_and_tasks_of_a_job_forgotten(launch):
    code, lines = ended(launch("--devices-per-process=3", "--behave=environment", SLURM_PROCID="0", SLURM_JOB_ID="7"))
    for rank in (0, 1):
        variables = variables_of(lines, rank)
        assert variables["JAX_NUM_CPU_DEVICES"] == "3" and variables["SLURM_JOB_ID"] == "7"
        assert "SLURM_PROCID" not in variables and "CUDA_VISIBLE_DEVICES" not in variables
    assert code == 0


def test_each_process_gets_gpus_of_its_own(launch):
    gpus = {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    code, lines = ended(launch("--devices-per-process=2", "--behave=environment", **gpus))
    assert code == 0
    assert [variables_of(lines, rank)["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)] == ["4,5", "6,7"]


def test_too_few_gpus_are_refused_before_anything_starts(launch):
    gpus = {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "0"}
    code, lines = ended(launch(program="--behave=environment", **gpus))
    assert code == 2
    assert any(
        "2 processes of 1 devices want 2 GPUs, here are 1; JAX_PLATFORMS=cpu simulates" in line for line in lines
    )
    assert not any("begins" in line for line in lines)


def test_program_that_does_not_exist_is_named(repo):
    command = [sys.executable, "launch/local.py", "--processes=2", "--", "no-such-program"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "local.py: no-such-program: No such file or directory\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_all_and_75_is_passed_on(launch, number):
    process = launch(program="--behave=interrupted")
    seen = ""
    while seen.count(RUNNING) < 2:
        seen += process.stdout.readline()
    process.send_signal(number)
    code, lines = ended(process)
    assert code == 75
    assert lines == [f"[{rank}] {number.name}: saving" for rank in (0, 1)]


def test_first_failure_ends_the_others_with_their_stacks(launch):
    code, lines = ended(launch("--grace=0.5", "--behave=one fails"))
    assert code == 3
    assert "local.py: process 1 ended with 3; the others have 0.5 s" in lines and "local.py: ending 0" in lines
    assert any(re.match(r"\[0\]   File .* in wait$", line) for line in lines)


def test_a_stopped_process_ends_the_run_and_shows_where_it_was(launch):
    start = time.monotonic()
    code, lines = ended(launch("--grace=0.5", "--behave=one stops"))
    assert code == 76 and time.monotonic() - start < 20
    assert "[0] stalled" in lines and "local.py: ending 1" in lines
    assert any(re.match(r"\[1\]   File .*standin.py", line) for line in lines)
