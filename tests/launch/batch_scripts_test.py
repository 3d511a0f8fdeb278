"""The batch scripts on a real scheduler, unchanged but for options of sbatch; a stand-in takes the place of main.py."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
TWO_TASKS = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1")
SCRIPTS = ("train", "debug", "evaluate", "build_data")


@dataclasses.dataclass
class Job:
    """A submitted job; `ended` waits for it."""

    slurm: object
    number: int
    log: Path

    def ended(self) -> tuple[str, int, int, list[str]]:
        """State, exit code, restarts, lines of the log without labels in the order of the file."""
        job = self.slurm.wait(self.number)
        code = int(job["ExitCode"].split(":")[0])
        return job["JobState"], code, int(job["Restarts"]), self.lines()

    def lines(self) -> list[str]:
        """What the log holds now."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


@pytest.fixture(scope="module")
def submit(slurm, repo, tmp_path_factory):
    """submit(script, flags of sbatch, flags of the program, variables) -> Job, run where main.py is the stand-in."""
    folder = tmp_path_factory.mktemp("standin")
    (folder / "launch").symlink_to(repo / "launch")
    shutil.copy(repo / "tests/launch/standin.py", folder / "main.py")

    def run(script: str, sbatch: tuple[str, ...] = (), program: tuple[str, ...] = (), **variables: str) -> Job:
        command = [f"--chdir={folder}", *TWO_TASKS, *sbatch, str(repo / f"launch/{script}.sbatch"), *program]
        number = slurm.submit(*command, environment=variables)
        return Job(slurm, number, folder / f"rig3r-{script}-{number}.log")

    return run


@pytest.fixture(scope="module")
def jobs(submit):
    """All jobs of this file, waiting at the same time."""
    return {
        "time limit": submit("train", ("--time=1", "--signal=USR1@50"), ("--behave=interrupted",)),
        "signal": submit("train", (), ("--behave=interrupted",)),
        "cancelled": submit("train", (), ("--behave=interrupted",)),
        "preempted": submit("train", (), ("--behave=interrupted",)),
        "one fails": submit("train", (), ("--behave=one fails",)),
        "one stops": submit("train", (), ("--behave=one stops",), RIG3R_MAX_RESTARTS="1"),
        "debug": submit("debug", (), ("--config=configs/demo.py", "--behave=interrupted", "--config.train.steps=7")),
        "environment": submit("train", (), ("--behave=environment",), NCCL_DEBUG="TRACE", https_proxy="proxy:1"),
    }


def running(job: Job) -> None:
    """Waits until both ranks run."""
    job.slurm.until(lambda: sum(line.endswith("running") for line in job.lines()) == 2, f"job {job.number} to run")


def test_interrupted_job_goes_back_to_the_queue_and_ends(jobs):
    """The first rank to end makes srun end the other, but 75 is what the job has come to."""
    running(jobs["signal"])
    jobs["signal"].slurm.run("scancel", "--signal=USR1", str(jobs["signal"].number))
    state, code, restarts, lines = jobs["signal"].ended()
    assert (state, code, restarts) == ("COMPLETED", 0, 1)
    number = jobs["signal"].number
    message = f"launch: interrupted, the state is saved; job {number} goes back to the queue, restart 1 of at most 50"
    assert message in lines
    for rank in (0, 1):
        flags = "--config=configs/full.py --behave=interrupted"
        begins = [line for line in lines if f"rank {rank} begins" in line]
        assert begins == [f"{rank}: run {run} rank {rank} begins {flags}" for run in (0, 1)]
        assert f"{rank}: SIGUSR1: saving" in lines


def test_time_limit_sends_usr1_to_the_ranks_beforehand(jobs):
    state, code, restarts, lines = jobs["time limit"].ended()
    assert (state, code, restarts) == ("COMPLETED", 0, 1)
    assert {"0: SIGUSR1: saving", "1: SIGUSR1: saving"} <= set(lines)


def test_requeued_by_slurm_itself_once(jobs):
    """As in preemption: SIGTERM, and the script asks for nothing."""
    running(jobs["preempted"])
    jobs["preempted"].slurm.run("scontrol", "requeue", str(jobs["preempted"].number))
    state, code, restarts, lines = jobs["preempted"].ended()
    assert (state, code, restarts) == ("COMPLETED", 0, 1)
    assert {"0: SIGTERM: saving", "1: SIGTERM: saving"} <= set(lines)
    assert not any("goes back to the queue" in line for line in lines)


def test_cancelled_job_saves_and_stays_cancelled(jobs):
    running(jobs["cancelled"])
    jobs["cancelled"].slurm.run("scancel", str(jobs["cancelled"].number))
    state, _, restarts, lines = jobs["cancelled"].ended()
    assert (state, restarts) == ("CANCELLED", 0)
    jobs["cancelled"].slurm.until(lambda: "0: SIGTERM: saving" in jobs["cancelled"].lines(), "the ranks to save")
    assert not any("goes back to the queue" in line for line in lines)


def test_first_failure_is_the_jobs_exit_code(jobs):
    """srun's own would be that of the rank it ended."""
    state, code, restarts, _ = jobs["one fails"].ended()
    assert (state, code, restarts) == ("FAILED", 3, 0)


def test_stalled_job_starts_again_but_not_for_ever(jobs):
    state, code, restarts, lines = jobs["one stops"].ended()
    assert (state, code, restarts) == ("FAILED", 76, 1)
    assert lines.count("0: stalled") == 2
    assert "launch: stalled; not started again after 1 restarts (RIG3R_MAX_RESTARTS=1)" in lines


def test_debug_script_fits_the_config_to_the_tasks_and_never_starts_again(jobs):
    running(jobs["debug"])
    jobs["debug"].slurm.run("scancel", "--signal=USR1", str(jobs["debug"].number))
    state, code, restarts, lines = jobs["debug"].ended()
    assert (state, code, restarts) == ("FAILED", 75, 0)
    words = next(line for line in lines if "rank 0 begins" in line).split()
    assert words[6] == "--config=configs/demo.py"  # before what overrides it
    assert {f"--workdir=runs/debug-{jobs['debug'].number}", "--config.mesh.data=2"} <= set(words)
    assert words.index("--config.train.steps=7") > words.index("--config.train.steps=20")  # the last one counts


def test_environment_of_a_rank(jobs, slurm):
    state, _, _, lines = jobs["environment"].ended()
    found = (re.fullmatch(r"1: (\w+)=(.*)", line) for line in lines)
    variables = dict(match.groups() for match in found if match)
    assert state == "COMPLETED"
    assert variables["NCCL_DEBUG"] == "TRACE" and variables["JAX_PLATFORMS"] == "cpu"  # what is set stays
    assert variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.92" and variables["OMP_NUM_THREADS"] == "1"
    assert "https_proxy" not in variables
    assert (variables["SLURM_PROCID"], variables["SLURM_LOCALID"]) == ("1", "0")
    assert variables["SLURM_CPUS_PER_TASK"] == "8" and variables["SLURM_JOB_NUM_NODES"] == "2"


def test_wrong_folder_and_missing_interpreter_are_said(slurm, repo, submit, tmp_path):
    lost = Job(
        slurm, slurm.submit(f"--chdir={tmp_path}", *TWO_TASKS, str(repo / "launch/train.sbatch")), tmp_path / "x"
    )
    lost.log = tmp_path / f"rig3r-train-{lost.number}.log"
    without = submit("train", (), (), RIG3R_VENV="nowhere")
    state, code, _, lines = lost.ended()
    assert (state, code, lines) == (
        "FAILED", 2, ["submit from the top folder of the repository, or with sbatch --chdir=FOLDER"]
    )  # fmt: skip
    state, code, _, lines = without.ended()
    assert (state, code) == ("FAILED", 2)
    assert lines == [
        "launch: no nowhere/bin/python; RIG3R_VENV=FOLDER or RIG3R_CONTAINER=IMAGE.sif says where Python is"
    ]


def test_full_size_is_what_the_script_asks_for(slurm, repo):
    """Taken as it is: this scheduler has fewer nodes, so the job is only held."""
    number = slurm.submit("--hold", "--nodes=12", str(repo / "launch/train.sbatch"))
    job = slurm.job(number)
    slurm.run("scancel", str(number))
    assert (job["NumTasks"], job["CPUs/Task"], job["TresPerNode"]) == ("96", "8", "gres:gpu:8")
    assert (job["Requeue"], job["TimeLimit"]) == ("1", "1-00:00:00")
    text = (repo / "launch/train.sbatch").read_text()
    assert "#SBATCH --nodes=16\n" in text and "#SBATCH --ntasks-per-node=8\n" in text


def test_shellcheck_has_nothing_to_say(repo):
    scripts = [f"launch/{name}.sbatch" for name in SCRIPTS] + ["launch/job.sh", "launch/env.sh"]
    done = subprocess.run(["shellcheck", "--external-sources", *scripts], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
