"""Training on a real scheduler: two processes, put back in the queue twice, end where one process ends."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rig3r_jax.training.metrics import read_metrics
from tests import runs
from tests.faults.faults import fault
from tests.launch.private_slurm import free_ports

pytestmark = pytest.mark.slurm
STEPS = 60
WORLDS = ("train_worlds=3", "test_worlds=2")
SAME_RUN = (
    "--config=configs/demo.py",
    *(f"--config.data.mixture[0].options.{option}" for option in WORLDS),
    "--config.data.records=",
    *runs.STARTED_SOON,
    "--config.optimizer.warmup_steps=5",
    f"--config.train.steps={STEPS}",
    "--config.train.batch_size=8",
    "--config.train.checkpoint_every=1000",
    "--config.train.log_every=1",
    "--config.mesh.data=2",
    "--config.evaluation.enabled=False",
    "--config.evaluation.baselines=False",
    "--config.evaluation.sets=('same_rigs',)",
    "--config.evaluation.samples=4",
    "--config.evaluation.batch_size=2",
)


@pytest.fixture(scope="module")
def submit(slurm, repo, tmp_path_factory):
    """submit(script, flags of sbatch, arguments) -> (number of the job, its log)."""
    folder = tmp_path_factory.mktemp("jobs")
    variables = {
        # Fake nodes have no addresses; on a cluster jax asks the first node of the job.
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
    }

    def run(script: str, sbatch: Sequence[str], *arguments: str) -> tuple[int, Path]:
        log = folder / f"{script}.log"
        command = [f"--chdir={repo}", f"--output={log}", *sbatch, str(repo / f"launch/{script}.sbatch"), *arguments]
        return slurm.submit(*command, environment=variables), log

    return run


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The same run in one process with two devices, started; `single()` waits for its rows of metrics."""
    workdir = tmp_path_factory.mktemp("single")
    process = runs.start("main.py", *SAME_RUN, f"--workdir={workdir}", JAX_NUM_CPU_DEVICES="2")

    def rows() -> list[dict]:
        runs.finish(process)
        return read_metrics(workdir / "metrics.jsonl")

    yield rows
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def trained(slurm, submit, single, tmp_path_factory):
    """Workdir of the finished job, its log and the steps at which it was interrupted."""
    workdir = tmp_path_factory.mktemp("trained")
    two_tasks = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
    number, log = submit("train", two_tasks, *SAME_RUN, f"--workdir={workdir}")
    interrupted = [0]
    for command in (("scontrol", "requeue"), ("scancel", "--signal=USR1")):
        before = interrupted[-1]

        def goes_on(before=before) -> bool:
            job = slurm.job(number)
            assert job["JobState"] not in ("FAILED", "COMPLETED"), said(log)
            return job["JobState"] == "RUNNING" and runs.last_step(workdir) >= before + 5

        slurm.until(goes_on, f"five steps beyond {before}")
        slurm.run(*command, str(number))
        assert slurm.wait(number, "PENDING FAILED COMPLETED")["JobState"] == "PENDING", said(log)
        interrupted.append(runs.last_step(workdir))
    job = slurm.wait(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "2"), said(log)
    return workdir, log, interrupted[1:]


def said(log: Path) -> str:
    """What a job's log holds; srun cuts long lines anywhere, in the middle of a character too."""
    return log.read_text(errors="replace")


@fault(
    21,
    what="A job of two nodes is put back into the queue by SLURM (`scontrol requeue`), then asks for it itself (75).",
    seen="`job N goes back to the queue, restart 2 of at most 50`; the log goes on: `resumed at step N`.",
    kept="All, up to the step that was under way.",
)
def test_job_goes_on_at_the_step_where_it_was_interrupted(trained):
    """Fault 21: SLURM puts the job back into the queue, twice."""
    workdir, log, interrupted = trained
    assert 5 <= interrupted[0] < interrupted[1] < STEPS
    assert [int(step) for step in re.findall(r"0: .*resumed at step (\d+)", said(log))] == interrupted
    assert {int(path.name) for path in (workdir / "checkpoints").iterdir()} == {*interrupted, STEPS}


def test_losses_equal_those_of_one_process(trained, single):
    expected, logged = single(), read_metrics(trained[0] / "metrics.jsonl")
    assert [row["step"] for row in logged] == [row["step"] for row in expected] == list(range(1, STEPS + 1))
    losses = [[row["loss/total"] for row in rows] for rows in (logged, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_evaluation_script_writes_the_report(trained, submit, slurm):
    workdir = trained[0]
    sbatch = ("--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1")
    number, log = submit("evaluate", sbatch, str(workdir))
    job = slurm.wait(number)
    assert (job["JobState"], job["NumTasks"]) == ("COMPLETED", "2"), said(log)
    assert (workdir / "evaluation.json").is_file() and (workdir / "report.html").is_file()


def test_data_script_builds_records(submit, slurm, tmp_path):
    out = tmp_path / "records"
    options = ("train_worlds=2", "test_worlds=1", "image_size=32")
    number, log = submit("build_data", (), "procedural", f"--out={out}", *options)
    job = slurm.wait(number)
    assert job["JobState"] == "COMPLETED", said(log)
    assert "train 2" in said(log) and (out / "build.json").is_file()


def test_array_of_the_data_script_builds_shards_whose_last_one_makes_the_records(submit, slurm, tmp_path):
    """Each task of the array has its share, in a process of its own node; an array with gaps is refused."""
    out = tmp_path / "records"
    options = ("procedural", f"--out={out}", "train_worlds=5", "test_worlds=1", "image_size=32")
    number, _ = submit("build_data", ("--array=1-2",), *options)
    gaps, log = submit("build_data", ("--array=0,2",), *options[:1], f"--out={tmp_path / 'gaps'}")
    slurm.until(lambda: not slurm.run("squeue", "--noheader", f"--jobs={number},{gaps}"), "the arrays to end")
    build = json.loads((out / "build.json").read_text())
    assert build["splits"] == {"train": 5, "same_rigs": 1, "unseen_rigs": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
    alone, _ = submit("build_data", (), *options[:1], f"--out={tmp_path / 'alone'}", *options[2:])
    slurm.wait(alone)
    assert json.loads((tmp_path / "alone/build.json").read_text()) == build
    assert "the numbers of the array must follow one another" in said(log)
