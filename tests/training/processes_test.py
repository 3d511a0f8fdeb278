"""Runs of several processes: who takes part, what they tell each other. What befalls them: tests/faults."""

import pytest

from rig3r_jax.training.processes import (
    Processes,
    gather,
    is_first,
    join,
    on_first,
    run_to_end,
    slurm_tasks,
    stop_agreed,
)
from tests import runs
from tests.faults import ranks


def test_without_others_everything_is_done_at_once():
    assert gather("x") == ["x"] and is_first() and not stop_agreed(3)
    assert on_first(lambda: 7) == 7
    join(environment={"SLURM_STEP_NUM_TASKS": "1"})


def test_flags_that_cannot_be_are_named_at_once():
    with pytest.raises(ValueError) as error:
        join(Processes("somewhere", 2, 2))
    for part in ("--coordinator is 'somewhere'; it must be HOST:PORT", "--process-id is 2"):
        assert part in str(error.value)
    assert Processes("host:1", 2, 1).problems() == [] == Processes().problems()


# What sees that they differ sees nothing here.
_ALONE = (
    "import runpy, sys; from rig3r_jax.training import agreement; agreement.differences = lambda everybody: [];"
    "sys.argv = sys.argv[1:]; runpy.run_path('main.py', run_name='__main__')"
)


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_at_once(tmp_path):
    """The others wait for it, and jax's farewell would wait for them."""
    coordinator, processes = ranks.free_coordinator(), []
    for number in range(2):
        records = tmp_path / ("records" if number == 0 else "not_shared")
        flags = runs.demo(tmp_path, records, "--config.mesh.data=2")
        command = ("-c", _ALONE, "main.py", *flags, *ranks.place(number, coordinator))
        processes.append(runs.start(*command, JAX_NUM_CPU_DEVICES="1"))
    try:
        output = runs.finish(processes[1], 2)
        assert f"process 1 does not see {tmp_path / 'not_shared'}" in output and "all nodes share" in output
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_bug_keeps_its_traceback(capsys):
    assert run_to_end(lambda: 1 // 0) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


STEP = {
    "SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "tasks"),
    [
        ({}, 1),
        ({"SLURM_NTASKS": "8"}, 1),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "n[1-2]"}, 1),  # salloc without srun
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "8"}, 1),
        ({**STEP, "SLURM_STEP_NUM_TASKS": ""}, 1),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": ""}, 1),
        (STEP, 8),
    ],
)
def test_a_process_is_one_of_many_only_in_a_step(environment, tasks):
    assert slurm_tasks(environment) == tasks


def test_variables_of_a_part_of_a_step_are_named():
    with pytest.raises(ValueError, match="task 0 of SLURM_STEP_NUM_TASKS=8, but SLURM_STEP_NODELIST is not set"):
        join(environment={**STEP, "SLURM_STEP_NODELIST": ""})
    with pytest.raises(ValueError, match="SLURM_STEP_NUM_TASKS is 'x', which is no number"):
        join(environment={"SLURM_STEP_NUM_TASKS": "x"})
