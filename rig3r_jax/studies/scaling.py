"""`rig3r scaling-study`: errors against the compute of small runs, and what their law says of a larger one."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.configs import scaling
from rig3r_jax.formats import markdown
from rig3r_jax.models.rig3r import VARIANTS
from rig3r_jax.studies.laws import MORE, Law, law_row, laws_of
from rig3r_jax.studies.power_law import LEAST
from rig3r_jax.studies.runner import Run, compute_of, evaluation_sets, finish, prepared_runs
from rig3r_jax.studies.scaling_chart import write_chart
from rig3r_jax.studies.table import LEGEND, score_rows, score_table, write_study
from rig3r_jax.studies.variants import Variant, check_names
from rig3r_jax.training.lock import only_writer
from rig3r_jax.training.task import TaskKind


def scaling_study(
    config: ConfigDict,
    out: Path,
    kind: TaskKind,
    *,
    on: Sequence[Path] = (),
    root: str = "",
    settings: Sequence[str] = ("none", "all"),
    predicted: Mapping[str, ConfigDict],
) -> int:
    """Trains and evaluates a grid of widths, numbers of worlds and sizes of images; the exit code.

    Args:
        config: of rig3r, with `study` as configs/scaling.py has it, which it gets where it has none.
        out: holds a workdir per run, records, scaling.json, scaling.md and scaling.png.
        kind: the module of the config's task.
        on, root, settings: as of `ablate`.
        predicted: configs by name, of which the law is asked.
    """
    if "widths" not in config.get("study", ()):
        with config.unlocked():
            config.study = scaling.study(config)
    asked = {name: compute_of(other) for name, other in predicted.items()}
    runs = prepared_runs(_open_sizes(config), grid(config), out, kind)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out):
        sets = evaluation_sets(config, on, root)
        finished, code = finish(runs, out, kind, sets, settings)
        names = [one.name for one in sets]
        if finished:
            laws = {name: laws_of(finished, name, settings) for name in names}
            write_chart(out / "scaling.png", laws, asked)
            write_study(
                out,
                "scaling",
                _text(finished, laws, settings, asked),
                {"sets": {one.name: one.protocol.sha256 for one in sets}, "settings": list(settings)},
                score_rows(finished, names, settings),
                runs={run.name: _figures(run) for run in finished},
                laws=[law_row(name, law, asked) for name in names for law in laws[name]],
            )
            print(out / "scaling.png")
    return code


def grid(config: ConfigDict) -> list[Variant]:
    """A variant for each width, number of worlds and size of images of `study`. ValueError where heads cannot keep
    their width, and for images larger than the data's."""
    study, model = config.study, {**VARIANTS[config.model.variant], **_given_sizes(config)}
    head_width, variants = model["width"] // model["heads"], []
    if bad := [worlds for worlds in study.worlds if worlds < 1]:
        raise ValueError(f"study.worlds has {bad[0]}; take numbers of worlds from 1 on, of which laws are told apart")
    rendered = [entry.options.image_size for entry in config.data.mixture if "image_size" in entry.options]
    if larger := [size for size in study.image_sizes if rendered and size > min(rendered)]:
        raise ValueError(
            f"study.image_sizes has {larger[0]}, and data.mixture has images of {min(rendered)} pixels, which larger "
            "ones would only blow up; take sizes up to that, or render larger: image_size of the mixture's options"
        )
    for width in study.widths:
        if width < 1 or width % head_width:
            raise ValueError(f"study.widths has {width}; take multiples of {head_width}, the width of a head")
        share = width / model["width"]
        of_width = (
            f"model.width={width}",
            f"model.heads={width // head_width}",
            f"model.ray_hidden={round(model['ray_hidden'] * share)}",
            *(f"optimizer.{key}={config.optimizer[key] * share**-study.rate_power:.6g}" for key in _RATES),
        )
        for worlds in study.worlds:
            for size in study.image_sizes:
                words = (*of_width, f"data.max_scenes={worlds}", f"sampling.image_size={size}")
                variants.append(Variant(f"width{width}-worlds{worlds}-size{size}", words))
    check_names([variant.name for variant in variants])
    return variants


_RATES = ("learning_rate", "end_learning_rate")


def _given_sizes(config: ConfigDict) -> dict[str, int]:
    """The sizes of the model that the config gives beside its variant's."""
    sizes = {key: config.model.get(key, 0) for key in ("width", "heads", "ray_hidden")}
    return {key: value for key, value in sizes.items() if value}


def _open_sizes(config: ConfigDict) -> ConfigDict:
    """The config with its variant's sizes as keys of its own, so that variants can change them."""
    sizes = {**VARIANTS[config.model.variant], **_given_sizes(config)}
    with config.unlocked():
        config.model.update({key: sizes[key] for key in ("width", "heads", "ray_hidden")})
    return config


def _figures(run: Run) -> dict[str, object]:
    return {"parameters": run.parameters, "operations": run.compute, "overrides": list(run.variant.overrides)}


def _text(
    runs: Sequence[Run], laws: Mapping[str, Sequence[Law]], settings: Sequence[str], asked: Mapping[str, float]
) -> str:
    sizes = [[run.name, f"{run.parameters:,}", f"{run.compute:.3g}"] for run in runs]
    lines = ["# Scaling", "", markdown.table(["run", "parameters", "operations"], sizes), ""]
    lines += [LEGEND, ""]
    for name, of_set in laws.items():
        lines += [f"## {name}", "", score_table(runs, name, settings), "", _law_table(of_set), ""]
        for config, compute in asked.items():
            lines += [_said_of(config, compute, of_set), ""]
    return "\n".join(lines)


def _law_table(laws: Sequence[Law]) -> str:
    """L(C) = L_inf + a (C / unit)^-b of every error and number of worlds."""
    rows = []
    for law in laws:
        cells = [_spread(getattr(law.law, key), law.interval(key)) for key in ("floor", "slope")]
        scale, unit = markdown.number(law.law.scale, ".3g"), markdown.number(law.law.unit, ".2g")
        rows.append([law.error, str(law.worlds), str(len(law.errors)), cells[0], scale, unit, cells[1]])
    table = markdown.table(["error", "worlds", "runs", "L_inf", "a", "unit", "b"], rows)
    text = f"L(C) = L_inf + a (C / unit)^-b, C in operations:\n\n{table}"
    if all(law.resampled for law in laws):
        return text
    return f"{text}\n\n-: {LEAST} different numbers of operations or fewer, too few for a law that says how sure it is."


def _said_of(config: str, compute: float, laws: Sequence[Law]) -> str:
    """What the laws of the most worlds say of a config, and of more compute."""
    most = max(law.worlds for law in laws)
    rows, farthest = [], max(float(law.compute.max(initial=0.0)) for law in laws)
    for law in (law for law in laws if law.worlds == most):
        now, more = (law.predict(compute * times) for times in (1.0, MORE))
        rows.append([law.error, *(_spread(one.value, (one.low, one.high)) for one in (now, more))])
    table = markdown.table(["error", f"{compute:.2g} operations", f"{MORE:g} times as many"], rows)
    beyond = f"; its operations are {compute / farthest:.3g} times those of the largest run" if farthest else ""
    return f"{config}, by the law of {most} worlds{beyond}:\n\n{table}"


def _spread(value: float, bounds: tuple[float, float]) -> str:
    if math.isnan(value):
        return markdown.DASH
    return f"{value:.3g} [{bounds[0]:.3g}, {bounds[1]:.3g}]"
