"""A system's scenes against the true ones: `score_scene`, `score_folder`."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int

from rig3r_jax.evaluation.systems.align import LEAST
from rig3r_jax.evaluation.systems.aligned import aligned_scene
from rig3r_jax.evaluation.systems.cameras import (
    TRAJECTORY,
    add_focals,
    add_rig,
    add_scale,
    add_trajectory,
    add_uncertainty,
)
from rig3r_jax.evaluation.systems.measures import Measures
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.pairs import PairTable, add_pairs
from rig3r_jax.evaluation.systems.read import FORMATS, is_scene, read_scene
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.evaluation.systems.surfaces import add_depth, add_points

COUNTS = (
    "images", "images_missing", "images_elsewhere", "pairs", "pairs_without_direction", "depth_maps_left_out"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SceneScores:
    """What was measured of one scene, and how its images were told."""

    name: str
    measures: Measures
    matched_by: str
    formats: tuple[str, str]  # of the predictions and the truth
    pairs: PairTable


SCENE_KINDS = (SceneScores, Measures, PairTable)  # what the scores of a scene are made of beside numbers


def score_scene(predicted: PosedScene, true: PosedScene, options: SystemOptions, name: str = "") -> SceneScores:
    """All that can be measured of one scene; ValueError where images cannot be told (`match`)."""
    measures = Measures()
    scene = aligned_scene(predicted, true, options)
    true, rows, ours, theirs, alignment = scene.true, scene.rows, scene.ours, scene.theirs, scene.alignment
    measures.add("images", len(true), 1.0, "")
    measures.add("images_missing", len(true) - len(rows.true), 1.0, "")
    measures.add("images_elsewhere", rows.strangers, 1.0, "")
    paired = _spread(len(true), options.max_images)
    pairs = add_pairs(measures, scene.poses[paired], true.take(paired), options)
    if len(theirs) and alignment is not None:
        add_trajectory(measures, theirs, alignment.poses(ours.world_from_camera))
    else:
        least = max(LEAST[options.align], 1)
        measures.lack(TRAJECTORY, f"{len(theirs)} images in common; --align {options.align} needs {least}")
    add_scale(measures, ours, theirs)
    add_focals(measures, ours, theirs)
    add_rig(measures, ours, theirs, len(true), options)
    if len(theirs):
        add_uncertainty(measures, ours, theirs, alignment)
    add_depth(measures, ours, theirs, alignment)
    add_points(measures, ours, theirs, alignment, options)
    return SceneScores(name, measures, rows.way, (predicted.kind, true.kind), pairs)


def _spread(count: int, most: int) -> Int[np.ndarray, " n"]:
    """At most `most` of the numbers 0 .. count - 1, evenly."""
    return np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64)


def score_folder(
    predictions: Path, truth: Path, options: SystemOptions, skip_missing: bool = False
) -> tuple[list[SceneScores], list[str]]:
    """The scores of every scene of the truth, and the scenes that the predictions lack.

    Args:
        predictions, truth: a scene each (see `read`), or folders of scenes: folders or files that are named alike but
            for their suffixes.
        options: how.
        skip_missing: scenes that the predictions lack are left out; else they are an error.

    Raises:
        ValueError: nothing to read; a scene that is missing, or cannot be scored, by its name.
    """
    for path in (predictions, truth):
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder; give {FORMATS}, or a folder of scenes")
    if is_scene(truth):
        return [score_scene(read_scene(predictions), read_scene(truth), options, truth.stem)], []
    true_scenes, scenes = scenes_of(truth), scenes_of(predictions)
    missing = [name for name in true_scenes if name not in scenes]
    if missing and (not skip_missing or len(missing) == len(true_scenes)):
        raise ValueError(
            f"{predictions}: lacks {len(missing)} of the {len(true_scenes)} scenes of {truth}, such as {missing[0]}; "
            "add them, or leave them out with --skip-missing"
        )
    scores = [
        score_scene(read_scene(scenes[name]), read_scene(path), options, name)
        for name, path in true_scenes.items()
        if name in scenes
    ]
    return scores, missing


def scenes_of(folder: Path) -> dict[str, Path]:
    """The scenes of a folder by name, sorted; ValueError for none, and for two of one name."""
    scenes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not is_scene(path):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in scenes:
            raise ValueError(f"{folder}: both {scenes[name].name} and {path.name} are the scene {name}; remove one")
        scenes[name] = path
    if not scenes:
        raise ValueError(f"{folder}: is no scene and holds none; give {FORMATS}, or a folder of scenes")
    return scenes
