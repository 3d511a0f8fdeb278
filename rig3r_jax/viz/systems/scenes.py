"""The scenes of an evaluation that are looked at: which, and their files read again, true and by every system."""

import dataclasses
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from rig3r_jax.evaluation.systems.aligned import AlignedScene, aligned_scene
from rig3r_jax.evaluation.systems.read import is_scene, read_scene
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.evaluation.systems.score import scenes_of
from rig3r_jax.evaluation.systems.summary import Evaluation, SystemScores
from rig3r_jax.exports.read import CAMERAS
from rig3r_jax.exports.thumbnails import thumbnails_of
from rig3r_jax.formats.cameras_json import is_cameras_json, read_cameras
from rig3r_jax.viz.switches import MOST_SWITCHES

RANKED_BY = "mAA30"  # percent, of all pairs of a scene


@dataclasses.dataclass(frozen=True)
class SceneLook:
    """One scene to look at."""

    name: str
    why: str  # it was chosen, in words
    true: PosedScene
    systems: dict[str, AlignedScene]
    not_shown: tuple[str, ...]  # systems beyond `MOST_SWITCHES`
    pictures: dict[str, UInt8[np.ndarray, "h w 3"]]  # by the images' names, of those whose files are at hand
    pictures_note: str  # which images have none, "" where all have one


def chosen_scenes(system: SystemScores, each: int) -> dict[str, str]:
    """The worst and the best scenes of a system, as many of each, with words; scenes that have no rate are not ranked.

    Of fewer scenes than twice as many each is there once.
    """
    rates = {scene.name: scene.measures.values.get(RANKED_BY, math.nan) for scene in system.scenes}
    ranked = sorted((name for name in rates if not math.isnan(rates[name])), key=lambda name: (rates[name], name))
    best = ranked[::-1][: min(each, len(ranked) // 2)]
    worst = ranked[: min(each, len(ranked) - len(best))]
    words = {name: f"worst {place}" for place, name in enumerate(worst, start=1)}
    words |= {name: f"best {place}" for place, name in enumerate(best, start=1)}
    return {name: f"{what} by {RANKED_BY} of {system.name}: {rates[name]:.1f}%" for name, what in words.items()}


def look_at(evaluation: Evaluation, name: str, why: str) -> SceneLook:
    """Reads a scene of the truth and of every system that has it, up to `MOST_SWITCHES`."""
    truth, systems, not_shown = Path(evaluation.truth), {}, []
    for system in evaluation.systems:
        if not any(scene.name == name for scene in system.scenes):
            continue
        if len(systems) == MOST_SWITCHES:
            not_shown.append(system.name)
        else:
            path = scene_path(Path(system.source), truth, name)
            systems[system.name] = aligned_scene(
                read_scene(path), read_scene(scene_path(truth, truth, name)), evaluation.options
            )
    true = next(iter(systems.values())).true
    places = [scene_path(truth, truth, name)]
    places += [scene_path(Path(system.source), truth, name) for system in evaluation.systems if system.name in systems]
    return SceneLook(name, why, true, systems, tuple(not_shown), *_pictures(true, places))


def scene_path(folder: Path, truth: Path, name: str) -> Path:
    """The file or folder of a scene; where the truth is one scene, so are the predictions."""
    return folder if is_scene(truth) else scenes_of(folder)[name]


def level_from_world(true: PosedScene) -> Float[np.ndarray, "4 4"]:
    """To a frame whose origin is the first true camera, whose y axis points down by the mean of what the cameras say,
    and in whose z axis the first camera looks ahead."""
    first = true.world_from_camera[0]
    down = true.world_from_camera[:, :3, 1].mean(axis=0)
    down = first[:3, 1] if np.linalg.norm(down) < 0.1 else down / np.linalg.norm(down)  # upside down cameras cancel
    ahead = first[:3, 2] - down * (first[:3, 2] @ down)
    if np.linalg.norm(ahead) < 1e-3:  # it looks straight down
        ahead = first[:3, 0] - down * (first[:3, 0] @ down)
    ahead = ahead / np.linalg.norm(ahead)
    level_from_world = np.eye(4)
    level_from_world[:3, :3] = np.stack([np.cross(down, ahead), down, ahead])
    level_from_world[:3, 3] = -level_from_world[:3, :3] @ first[:3, 3]
    return level_from_world


def _pictures(true: PosedScene, places: list[Path]) -> tuple[dict[str, UInt8[np.ndarray, "h w 3"]], str]:
    """By the first of the files that names a folder in which images are."""
    note = f"{true.source} names no folder of images"
    for place in places:
        path = place / CAMERAS if place.is_dir() else place
        if not (path.is_file() and path.suffix == ".json" and is_cameras_json(path)):
            continue
        reconstruction = read_cameras(path)
        thumbnails = thumbnails_of(reconstruction, path.parent)
        note = thumbnails.note()
        if thumbnails.pictures:
            return {reconstruction.images[row].name: picture for row, picture in thumbnails.pictures.items()}, note
    return {}, note
