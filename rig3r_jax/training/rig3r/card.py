"""The card of a run's exported parameters, in Markdown: what they are, what they were trained on, figures, limits.

All of it comes from the workdir's config and evaluation, and from the exported file.
"""

import hashlib
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from rig3r_jax.data.source import filled_options
from rig3r_jax.data.sources import source_class
from rig3r_jax.evaluation.rows import CLOSED_FORM, blank_label
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.formats.markdown import number, table
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.commit import commit
from rig3r_jax.training.config import flat_config, workdir_config
from rig3r_jax.training.flags import config_names, read_config
from rig3r_jax.training.paths import is_place
from rig3r_jax.training.rig3r.initial import started_from
from rig3r_jax.weights.convert import load_metadata
from rig3r_jax.weights.files import read_tensors

_ROWS = {  # of an evaluation -> in words
    "none": "images alone",
    blank_label("none"): "nothing: images blanked",
    "time": "images and times",
    "rig": "images and the rig's calibration",
    "all": "images and all metadata",
    blank_label("all"): "all metadata, images blanked",
    CLOSED_FORM: "no network: straight driving by rig and times",
}
_FIGURES = {"RRA15": "RRA15", "RTA15": "RTA15", "mAA30": "mAA30", "rig_mAA30": "rig mAA30"}  # key -> title
_POINTS = "chamfer_relative"
_ASIDE = re.compile(r"(evaluation|mesh|data\.roots)\..*|notes|title|.*\.(root|records|init_from|continue_from)")


def evaluation_of(workdir: str | Path) -> dict:
    """The evaluation.json of a run's newest checkpoint. ValueError where that is not evaluated."""
    workdir = Path(workdir)
    place, newest = workdir / "evaluation.json", max(saved_steps(workdir / "checkpoints"), default=None)
    evaluation = read_json(place) if place.exists() else {}
    if evaluation.get("step") != newest:
        have = f"of step {evaluation['step']}" if evaluation else "missing"
        raise ValueError(
            f"{workdir}: a card has the figures of the newest checkpoint, step {newest}; evaluation.json is {have}: "
            f"make it with rig3r evaluate {workdir}"
        )
    return evaluation


def write_card(workdir: str | Path, evaluation: Mapping, file: str | Path) -> str:
    """Writes the card of an exported file of a run beside it, FILE.md; says where. `evaluation` is that of the run."""
    file = Path(file)
    config, metadata = workdir_config(workdir), load_metadata(file)
    sections = [
        f"# {file.stem}",
        f"{config.title}. Written by `rig3r export --card`{f' of commit {commit()}' if commit() else ''}.",
        table(("", "is"), _facts(config, file, metadata), left=2),
        "## Data",
        *_data(config),
        "## Figures",
        *_figures(config, evaluation),
        "## Limits",
        "\n".join(f"* {limit}" for limit in _limits(config, evaluation)),
    ]
    card = file.with_suffix(".md")
    write_atomically(card, ("\n\n".join(sections) + "\n").encode())
    return f"{card}: the card"


def _facts(config: ConfigDict, file: Path, metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    arrays = read_tensors(file).values()
    types = " and ".join(sorted({str(array.dtype) for array in arrays}))
    yield "parameters", f"{sum(array.size for array in arrays):,}, {types}"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    yield "file", f"{file.name}, {file.stat().st_size / 1e6:.2f} MB, SHA-256 {digest}"
    side = config.sampling.image_size
    yield "sees", f"{config.sampling.num_views} images a pass, each as {side} x {side} pixels"
    yield "trained", f"{int(metadata['step']):,} steps of {config.train.batch_size} samples, seed {config.seed}"
    if config.name in config_names():
        yield "command", " ".join(["rig3r train", f"--config={config.name}", *_changes(config)])
    yield "licence", _licence(config)


def _licence(config: ConfigDict) -> str:
    """Whose terms go with the parameters: of weights that they were started from, else of recorded data."""
    if origin := started_from(config):
        return f"that of {origin}, from which it was started"
    recorded = sorted({entry.name for entry in config.data.mixture if entry.weight > 0} - {"procedural"})
    return f"as the data allow: {', '.join(recorded)}" if recorded else "Apache-2.0, as the package"


def _changes(config: ConfigDict) -> Iterator[str]:
    """Flags that make the installed config of the run's name that of the run; files, devices and evaluation aside."""
    installed = flat_config(read_config([f"--config={config.name}"]))
    for key, value in flat_config(config).items():
        if value != installed.get(key) and not _ASIDE.fullmatch(key) and not is_place(value):
            yield shlex.quote(f"--config.{key}={value}")


def _data(config: ConfigDict) -> Iterator[str]:
    """What it was trained on: of each data set the options that are not the source's defaults."""
    rows = []
    for entry in config.data.mixture:
        defaults = filled_options(source_class(entry.name), {})
        options = {key: value for key, value in entry.options.items() if value != defaults[key]}
        rows.append((entry.name, f"{entry.weight:g}", " ".join(f"{key}={value}" for key, value in options.items())))
    yield table(("data set", "weight", "options"), rows, left=3)


def _figures(config: ConfigDict, evaluation: Mapping) -> Iterator[str]:
    """Tables of the sets of an evaluation.json."""
    lenses = "given" if config.evaluation.known_intrinsics else "recovered"
    yield (
        f"`rig3r evaluate`, in each set {evaluation['samples_per_set']} samples of {evaluation['images_per_sample']} "
        f"images, lenses {lenses}. Percent of pairs of images (cameras, for the rig) whose rotation (RRA15) or "
        "direction of translation (RTA15) is off by less than 15 degrees; mAA30 averages over thresholds from 1 to 30 "
        "degrees the share that is right in both. Points: Chamfer distance over the mean depth."
    )
    for name, rows in evaluation["sets"].items():
        of_rows = [(words, rows[row]) for row, words in _ROWS.items() if row in rows]
        cells = [
            [words, *(_cell(scores, key, ".1f") for key in _FIGURES), _cell(scores, _POINTS, ".2f")]
            for words, scores in of_rows
        ]
        yield f"### {name.replace('_', ' ')}"
        yield table(("what it is given", *_FIGURES.values(), "points"), cells)


def _cell(scores: Mapping, key: str, spec: str) -> str:
    value = scores.get(key)
    return number(math.nan if value is None else value, spec)


def _limits(config: ConfigDict, evaluation: Mapping) -> Iterator[str]:
    if all(entry.name == "procedural" for entry in config.data.mixture):
        yield (
            "It was trained on rendered worlds alone: what it says of photographs is a guess that nobody has measured."
        )
    side, views = config.sampling.image_size, config.sampling.num_views
    yield f"It sees {side} x {side} pixels: whatever is smaller than {1 / side:.1%} of an image's side is lost."
    yield f"It was trained on {views} images at once; more go through in passes, which are joined."
    *_, (name, rows) = evaluation["sets"].items()
    none, blank, closed = (rows.get(row, {}).get("mAA30") for row in ("none", blank_label("none"), CLOSED_FORM))
    if none is not None and blank is not None:
        yield (
            f"Images alone reach {none:.1f} mAA30 of {name.replace('_', ' ')}, blank ones {blank:.1f}: the difference "
            "is what it sees."
        )
    if closed is not None and closed > rows.get("all", {}).get("mAA30", math.inf):
        yield (
            f"Where rig and times are known, straight driving without a network is better ({closed:.1f} mAA30 against "
            f"{rows['all']['mAA30']:.1f} of {name.replace('_', ' ')})."
        )
    yield "Images alone do not tell metres: lengths are in units of the scene, unless a rig or a scale is given."
