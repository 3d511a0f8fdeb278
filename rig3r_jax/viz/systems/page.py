"""The evaluation of systems as one page that opens anywhere: scores, plots, scenes to look at, uncertainty."""

from collections.abc import Sequence
from pathlib import Path

from rig3r_jax.evaluation.systems.aligned import AlignedScene, aligned_scene
from rig3r_jax.evaluation.systems.read import read_scene
from rig3r_jax.evaluation.systems.summary import Evaluation, SystemScores
from rig3r_jax.evaluation.systems.tables import LEGEND, reasons_of, settings_of
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.html import escape, tag
from rig3r_jax.viz.page import document
from rig3r_jax.viz.panels import png_source
from rig3r_jax.viz.systems.reliability import pooled_errors, reliability_charts
from rig3r_jax.viz.systems.scene_section import scene_section
from rig3r_jax.viz.systems.scenes import RANKED_BY, chosen_scenes, look_at, scene_path
from rig3r_jax.viz.systems.score_tables import glance_table, group_tables, parts_plot, scenes_table

EACH = 2  # worst and best scenes that are shown


def write_page(path: Path, evaluation: Evaluation, charts: Sequence[Path], from_files: bool = True) -> None:
    """Writes the page; it needs no network and no other file.

    Args:
        path: of the page.
        evaluation: what it tells.
        charts: pictures that were drawn of it (`viz.system_charts`), which the page holds.
        from_files: whether truth and predictions are files: they are read again, to look at scenes and at covariances.

    Raises:
        ValueError, OSError: files that have changed since they were scored.
    """
    names = ", ".join(system.name for system in evaluation.systems)
    missing = {system.name: system.numbers["images_missing"].value for system in evaluation.systems}
    facts = {
        "Systems": len(evaluation.systems),
        "Scenes": len(evaluation.systems[0].scenes),
        "Images": f"{evaluation.systems[0].numbers['images'].value:,.0f}",
        "Without a pose": ", ".join(f"{name} {count:,.0f}" for name, count in missing.items() if count) or 0,
        "Alignment": evaluation.options.align,
    }
    summary = "".join(tag("div", tag("dt", escape(name)) + tag("dd", escape(value))) for name, value in facts.items())
    how = "".join(tag("li", escape(line)) for line in settings_of(evaluation))
    body = [
        tag(
            "header",
            tag("h1", "Evaluation of poses and points")
            + tag("p", escape(f"{names} against {evaluation.truth}"), class_="lead")
            + tag("dl", summary, class_="summary"),
        ),
        _section(
            "Scores",
            glance_table(evaluation)
            + parts_plot(evaluation)
            + group_tables(evaluation)
            + scenes_table(evaluation)
            + _note(),
        ),
        _section("Curves", "".join(map(_picture, charts))),
        _scenes(evaluation) if from_files else "",
        _uncertainty(evaluation) if from_files else "",
        _section("How it was measured", tag("ul", how, class_="read")),
        _section("Not measured", "".join(tag("p", escape(line), class_="note") for line in reasons_of(evaluation))),
    ]
    title = f"Evaluation: {names}"
    write_atomically(path, document(title, "".join(body)).encode("utf-8"))


def _section(title: str, content: str) -> str:
    return tag("section", tag("h2", escape(title)) + content) if content else ""


def _note() -> str:
    bold = "Bold: the best system. ↑ higher is better, ↓ lower."
    return tag("p", escape(f"{LEGEND} {bold}".replace("In brackets", "In small").replace("-:", "–:")), class_="note")


def _picture(chart: Path) -> str:
    """The picture has its own titles."""
    image = f'<img src="{png_source(chart.read_bytes())}" alt="{escape(chart.stem.replace("_", " "))}">'
    return tag("figure", image, class_="chart wide plot")


def _scenes(evaluation: Evaluation) -> str:
    first = evaluation.systems[0]
    chosen = chosen_scenes(first, EACH)
    if not chosen:
        return _section("Scenes", tag("p", escape(f"No scene has {RANKED_BY} by {first.name}."), class_="empty"))
    looks = (look_at(evaluation, name, why) for name, why in chosen.items())
    return _section("Scenes", "".join(scene_section(look, f"scene{number}") for number, look in enumerate(looks)))


def _uncertainty(evaluation: Evaluation) -> str:
    """Of systems that state covariances, of which only their scenes are read again."""
    systems = {}
    for system in evaluation.systems:
        if "d2_pose" not in system.reasons and (samples := pooled_errors(_aligned(evaluation, system))):
            systems[system.name] = samples
    return _section("Uncertainty", reliability_charts(systems))


def _aligned(evaluation: Evaluation, system: SystemScores) -> list[AlignedScene]:
    truth, source = Path(evaluation.truth), Path(system.source)
    return [
        aligned_scene(
            read_scene(scene_path(source, truth, scene.name)),
            read_scene(scene_path(truth, truth, scene.name)),
            evaluation.options,
        )
        for scene in system.scenes
    ]
