"""`rig3r ablate`: what a part of Rig3R is worth, by a run without it."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.configs import ablations
from rig3r_jax.studies.runner import Run, evaluation_sets, finish, prepared_runs
from rig3r_jax.studies.table import LEGEND, score_rows, score_table, write_study
from rig3r_jax.studies.variants import BASE, chosen, variants_of
from rig3r_jax.training.lock import only_writer
from rig3r_jax.training.task import TaskKind


def ablate(
    config: ConfigDict,
    out: Path,
    kind: TaskKind,
    *,
    on: Sequence[Path] = (),
    root: str = "",
    settings: Sequence[str] = ("none", "all"),
    only: Sequence[str] = (),
) -> int:
    """Trains and evaluates the variants of a config, and compares each with its base; the exit code.

    Args:
        config: of rig3r, with `study.variants`; without them those of configs/ablations.py.
        out: holds a workdir per variant, records, ablations.json and ablations.md.
        kind: the module of the config's task.
        on: protocols and folders of records to evaluate on; (): the config's own records, `evaluation.sets`.
        root: folder of the raw data of protocols.
        settings: of evaluation.protocol.PROTOCOL_SETTINGS: what the runs are told of the rig.
        only: names of variants; (): all.
    """
    if "variants" not in config.get("study", ()):
        with config.unlocked():
            config.study = ablations.study(config)
    variants = chosen(variants_of(config.study), only)
    runs = prepared_runs(config, variants, out, kind)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out):
        sets = evaluation_sets(config, on, root)
        finished, code = finish(runs, out, kind, sets, settings)
        names = [one.name for one in sets]
        if finished:
            write_study(
                out,
                "ablations",
                _text(finished, names, settings),
                {"sets": {one.name: one.protocol.sha256 for one in sets}, "settings": list(settings)},
                score_rows(finished, names, settings, finished[0]),
                variants={run.name: list(run.variant.overrides) for run in finished},
            )
    return code


def _text(runs: Sequence[Run], sets: Sequence[str], settings: Sequence[str]) -> str:
    base = runs[0]
    changes = [f"* {run.name}: {' '.join(run.variant.overrides)}" for run in runs if run.name != BASE]
    lines = ["# Ablations", "", *changes, "", LEGEND.replace("*", r"\*"), ""]
    for name in sets:
        lines += [f"## {name}", "", score_table(runs, name, settings, base), ""]
    if diverged := [run.name for run in runs if not run.scores.sets]:
        lines += [f"Diverged, and without scores: {', '.join(diverged)}.", ""]
    return "\n".join(lines)
