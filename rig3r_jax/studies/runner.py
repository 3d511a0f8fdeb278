"""Runs of a study: each variant of a config trained in a workdir of its own, as `rig3r train` does, then evaluated.

What is finished is not done again: the same command goes on where a study was stopped.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.studies.scores import RunScores, has_diverged, note_diverged, run_scores
from rig3r_jax.studies.sets import EvaluationSet, recorded_sets, sets_at
from rig3r_jax.studies.variants import Variant, variant_config
from rig3r_jax.training import loop
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.config import config_differences
from rig3r_jax.training.paths import make_absolute
from rig3r_jax.training.records import build_mixture, ready_entries, records_folder
from rig3r_jax.training.rig3r.data import check_max_scenes, check_splits
from rig3r_jax.training.rig3r.flops import step_flops
from rig3r_jax.training.rig3r.setup import abstract_params, build_model
from rig3r_jax.training.task import TaskKind, validate


@dataclasses.dataclass(frozen=True)
class Run:
    """A variant with the config of its run, and what it scores; None: not yet."""

    variant: Variant
    config: ConfigDict
    scores: RunScores | None = None

    @property
    def name(self) -> str:
        return self.variant.name

    @functools.cached_property
    def parameters(self) -> int:
        """Numbers of its model."""
        return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(_model(self.config))))

    @functools.cached_property
    def compute(self) -> float:
        """Floating-point operations of its training, all steps."""
        return compute_of(self.config)


def compute_of(config: ConfigDict) -> float:
    """Floating-point operations of the training that a config asks for."""
    model = _model(config)
    return config.train.steps * step_flops(config, model, abstract_params(model))


def prepared_runs(config: ConfigDict, variants: Sequence[Variant], out: Path, kind: TaskKind) -> list[Run]:
    """The runs of a study, every one checked before the first begins; records without a folder go to `out`.

    ValueError names the variants that cannot run and why, and folders of `out` that hold runs of other configs.
    """
    config.data.records = config.data.records or str(out / "records")
    runs, problems = [], []
    for variant in variants:
        try:
            run = Run(variant, variant_config(config, variant))
            make_absolute(run.config)
            ready = ready_entries(run.config, records_folder(run.config, out / run.name))
            validate(_evaluated(run.config), kind, devices=jax.device_count(), ready=ready)
            if differences := config_differences(run.config, out / run.name):
                was = "; ".join(line.partition("config: ")[2] for line in differences)
                raise ValueError(f"{out / run.name} is a run of another config: {was}; give another --out")
            runs.append(run)
        except ValueError as error:
            problems.append(str(error) if str(error).startswith("variant ") else f"variant {variant.name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return runs


def evaluation_sets(config: ConfigDict, on: Sequence[Path], root: str) -> list[EvaluationSet]:
    """Those of the paths `on` (see `sets.sets_at`), else drawn from the config's own records, which are built."""
    if on:
        sets = sets_at(on, root, config)
    else:
        resolved = config.copy_and_resolve_references()
        make_absolute(resolved)
        sets = recorded_sets(build_mixture(resolved, Path(resolved.data.records)), resolved)
    names = [one.name for one in sets]
    if not sets or len(set(names)) < len(names):
        named = f"they are {', '.join(names)}" if sets else "there is none"
        raise ValueError(f"a study wants sets to evaluate on, each of a name of its own; {named}: see --on")
    return sets


def finish(
    runs: Sequence[Run], out: Path, kind: TaskKind, sets: Sequence[EvaluationSet], settings: Sequence[str]
) -> tuple[list[Run], int]:
    """Trains and evaluates one run after the other, and prints of each how long it took.

    Returns the runs with their scores; and 0, or the exit code of a training that was interrupted or could not save,
    which ends the study: the runs are then those before it. One that diverged has no scores.
    """
    for run in runs:
        records = build_mixture(run.config, records_folder(run.config, out / run.name))
        check_splits(run.config, records)
        check_max_scenes(run.config, records)
    finished = []
    for number, run in enumerate(runs, 1):
        started = time.perf_counter()
        code = _trained(run.config, out / run.name, kind)
        if code not in (loop.EXIT_DONE, loop.EXIT_DIVERGED):
            print(f"{len(finished)} of {len(runs)} runs are finished; the same command goes on after them", flush=True)
            return finished, code
        trained = time.perf_counter() - started
        diverged = code == loop.EXIT_DIVERGED
        scores = RunScores(0, {}) if diverged else run_scores(run.config, out / run.name, sets, settings)
        jax.clear_caches()  # compiled programs of one variant are of no use to the next
        took = f"training {trained:.0f} s, evaluation {time.perf_counter() - started - trained:.0f} s"
        print(f"{number} of {len(runs)}, {run.name}: {'diverged' if diverged else took}", flush=True)
        finished.append(dataclasses.replace(run, scores=scores))
    return finished, loop.EXIT_DONE


def _trained(config: ConfigDict, workdir: Path, kind: TaskKind) -> int:
    """Trains to the last step, or finds that done; the exit code of `rig3r train`."""
    if has_diverged(workdir):
        return loop.EXIT_DIVERGED
    if config.train.steps in saved_steps(workdir / "checkpoints"):
        return loop.EXIT_DONE
    with loop.prepare(config, workdir, kind) as prepared:
        code = loop.run(prepared)
        if code == loop.EXIT_DIVERGED:
            note_diverged(workdir, int(prepared.state.step))
        return code


def _evaluated(config: ConfigDict) -> ConfigDict:
    """The config of a run that evaluates itself: the study does so by the same section."""
    config = config.copy_and_resolve_references()
    config.evaluation.enabled = True
    return config


def _model(config: ConfigDict) -> Rig3R:
    return build_model(config, backend="cpu")
