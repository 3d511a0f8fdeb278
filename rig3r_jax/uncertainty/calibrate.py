"""`rig3r calibrate-study`: a small Rig3R is trained and frozen, then the old and the new head learn its errors.

backbone/                 the run of the config uncertainty_backbone, unless another one is given
features/                 what it says of the windows of the config calibrate_study
arms/<arm>/seed_<n>/      metrics.jsonl of every run, for `rig3r charts`
study.md, study.json      the tables, and what they are held against
charts/*.png              old head against new, seed 0; calibration/*.png: the recipe on held-out windows
pose_graph.md, .json      held-out trajectories under the recipe's weights; trajectories/ as files
"""

import dataclasses
import functools
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.configs import uncertainty_backbone
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import json_line, write_json
from rig3r_jax.training import loop
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.lock import only_writer
from rig3r_jax.training.rig3r import task as rig3r_task
from rig3r_jax.training.task import validate
from rig3r_jax.uncertainty import report
from rig3r_jax.uncertainty import task as uncertainty_task
from rig3r_jax.uncertainty.export import write_head
from rig3r_jax.uncertainty.study import (
    RECIPE,
    Arm,
    ArmResult,
    run_arm,
    study_arms,
)
from rig3r_jax.uncertainty.study_table import checks, study_table, summary
from rig3r_jax.uncertainty.task import UncertaintyTask, open_task
from rig3r_jax.viz.histories import read_history
from rig3r_jax.viz.metric_charts import write_charts


def calibrate_study(config: ConfigDict, workdir: Path, backbone: Path | None, seeds: int) -> int:
    """Runs or goes on with the study; prints the tables. Returns 0, or the code with which the backbone's run ended.

    Args:
        config: of the heads; records without a folder of their own go into the workdir.
        workdir: holds everything; what is there already is not made again, but for the heads.
        backbone: workdir of a Rig3R, or a converted VGGT; None takes config.backbone.path, or trains the small Rig3R.
        seeds: of each arm, from 0 on.

    Raises:
        ValueError, OSError: what the user can mend.
    """
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; it must be at least 1")
    started = time.perf_counter()
    trains_backbone = not (backbone or config.backbone.path)
    config.data.records = config.data.records or str(workdir / "records")
    config.backbone.path = str(backbone or config.backbone.path or Path.cwd())  # one that exists, for the check
    validate(config, uncertainty_task)  # before anything is made, and the backbone takes its minutes
    workdir.mkdir(parents=True, exist_ok=True)
    if trains_backbone:
        config.backbone.path = str(workdir / "backbone")
        if code := _train_backbone(workdir / "backbone", config.data.records):
            return code
    with only_writer(workdir):
        task = open_task(config, workdir)
        print(f"backbone and features: {time.perf_counter() - started:.0f} s\n", flush=True)
        started = time.perf_counter()
        _run(task, workdir, seeds)
        print(f"study: {time.perf_counter() - started:.0f} s; everything is in {workdir}")
    return loop.EXIT_DONE


def _train_backbone(folder: Path, records: str) -> int:
    config = uncertainty_backbone.get_config()
    config.data.records, config.evaluation.enabled = records, False
    if (folder / "config.json").exists():
        if config.train.steps in saved_steps(folder / "checkpoints"):
            return loop.EXIT_DONE
    with loop.prepare(config, folder, rig3r_task) as prepared:
        return loop.run(prepared)


def _run(task: UncertaintyTask, workdir: Path, seeds: int) -> None:
    pools, config = task.pools, task.config
    results, print_at_once = [], functools.partial(print, flush=True)
    for arm in study_arms(pools.train, task.nll, task.head):
        result = run_arm(arm, pools.train, pools.validation, pools.test, range(seeds), print_at_once)
        _write_arm(workdir / "arms", result, task.backbone.digest)
        results.append(result)
    print()
    verdicts = checks(results)
    table = study_table(results) + "\n### Held against\n\n" + "\n".join(f"* {line}" for line in verdicts) + "\n"
    write_atomically(workdir / "study.md", table.encode())
    _write_json(workdir / "study.json", results, verdicts)
    print(table)
    plain_arms = [result.arm for result in results if result.arm.head.head_init == "default"]
    histories = {arm.name: read_history(_folder(workdir / "arms", arm, 0)) for arm in plain_arms}
    write_charts(histories, workdir / "charts")
    recipe = next(result for result in results if result.arm.role == RECIPE)
    report.write_calibration(recipe.reports[0], workdir, {"seed": recipe.seeds[0], "backbone": task.backbone.name})
    if config.evaluation.trajectories:
        print(report.write_trajectories(task, recipe.params[0], workdir))


def _folder(root: Path, arm: Arm, seed: int) -> Path:
    return root / re.sub(r"[^\w.]+", "_", arm.name) / f"seed_{seed}"


def _write_arm(root: Path, result: ArmResult, backbone: str) -> None:
    """Metrics and the head of every seed."""
    for seed, params, rows in zip(result.seeds, result.params, result.histories, strict=True):
        folder = _folder(root, result.arm, seed)
        write_atomically(folder / "metrics.jsonl", "".join(map(json_line, rows)).encode())
        write_head(folder / "head.safetensors", params, result.arm.nll, f"{result.arm.name}, seed {seed}", backbone)


def _write_json(path: Path, results: Sequence[ArmResult], verdicts: Sequence[str]) -> None:
    arms = {
        result.arm.name: {
            "nll": dataclasses.asdict(result.arm.nll),
            "head": dataclasses.asdict(result.arm.head),
            "seeds": result.seeds,
            "figures": summary(result),
        }
        for result in results
    }
    write_json(path, {"arms": arms, "held_against": verdicts})
