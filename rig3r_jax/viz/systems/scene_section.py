"""One scene of an evaluation: its images, and by each system cameras from above, rig and error maps."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.evaluation.systems.aligned import AlignedScene
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.exports.report.pictures import jpeg_data_uri
from rig3r_jax.formats.html import escape, format_number, tag
from rig3r_jax.geometry import rigid
from rig3r_jax.viz.above import scene_from_above
from rig3r_jax.viz.panels import fit_for_display
from rig3r_jax.viz.rig_from_above import rig_from_above
from rig3r_jax.viz.switches import switches
from rig3r_jax.viz.systems.error_maps import error_maps
from rig3r_jax.viz.systems.scenes import SceneLook, level_from_world

_PICTURE_PIXELS = 96
_MOST_PICTURES = 48


def scene_section(scene: SceneLook, identity: str) -> str:
    """`identity` tells the switches of several scenes apart."""
    views = {name: _of_system(name, aligned) for name, aligned in scene.systems.items()}
    parts = [tag("h3", escape(scene.name)), tag("p", escape(scene.why), class_="note"), _strip(scene)]
    if scene.not_shown:
        parts.append(tag("p", escape(f"Not drawn: {', '.join(scene.not_shown)}."), class_="note"))
    parts.append(switches(views, identity, f"Systems on {scene.name}"))
    return tag("section", "".join(parts), class_="scene")


def _strip(scene: SceneLook) -> str:
    """Thumbnails with the numbers that cameras have in the views from above."""
    names = scene.true.names or ()
    cells = []
    for row, name in list(enumerate(names))[:_MOST_PICTURES]:
        if name in scene.pictures:
            source = jpeg_data_uri(fit_for_display(scene.pictures[name], _PICTURE_PIXELS))
            image = f'<img src="{source}" alt="{escape(f"image {name}")}">'
            cells.append(tag("figure", image + tag("figcaption", escape(f"{row} · {name.rpartition('.')[0] or name}"))))
    note = scene.pictures_note
    if len(names) > _MOST_PICTURES and cells:
        note = "; ".join(filter(None, [note, f"the first {_MOST_PICTURES} of {len(names)} images"]))
    note = tag("p", escape(f"{note}."), class_="note") if note else ""
    return (tag("div", "".join(cells), class_="strip") if cells else "") + note


def _of_system(name: str, scene: AlignedScene) -> str:
    if scene.alignment is None or not np.isfinite(scene.alignment.scale):
        return tag(
            "p", escape(f"{name}: too few images with a pose, or all in one place: nothing aligns it."), class_="empty"
        )
    true = scene.true  # of a trajectory without names, only the images that this system has
    level = level_from_world(true)
    moved = np.full((len(true), 4, 4), np.nan)
    moved[scene.rows.true] = scene.alignment.poses(scene.ours.world_from_camera)
    labels = [_label(true, moved, row) for row in range(len(true))]
    above = scene_from_above(
        level @ true.world_from_camera,
        level @ moved,
        np.zeros((0, 3)),
        np.zeros((0, 3), np.uint8),
        labels,
        title=f"{name}: {len(scene.rows.true)} of {len(true)} images with a pose",
        unit="m" if true.is_metric else "units",
    )
    return above + _rigs(scene) + error_maps(scene)


def _label(true: PosedScene, moved: Float[np.ndarray, "v 4 4"], row: int) -> str:
    name = true.names[row] if true.names else str(row)
    if not np.isfinite(moved[row]).all():
        return f"{name}, no pose"
    theirs = true.world_from_camera[row]
    angle = float(rotation_angle_deg(theirs[None, :3, :3], moved[None, row, :3, :3])[0])
    distance = float(np.linalg.norm(theirs[:3, 3] - moved[row, :3, 3]))
    unit = "m" if true.is_metric else "units"
    return f"{name}, off by {format_number(angle, 3)}°, {format_number(distance, 3)} {unit}"


def _rigs(scene: AlignedScene) -> str:
    """The true rig and the system's, both from above in the true one's frame, or in a line why there is none.

    They coincide in the camera of the first common image.
    """
    sides = {"true rig": scene.theirs, "the system's rig": scene.ours}
    lack = [side.source for side in sides.values() if side.cameras is None or side.rig_from_camera is None]
    if lack:
        return tag(
            "p", escape(f"No drawing of rigs: {lack[0]} does not say where cameras sit in a rig."), class_="note"
        )
    drawings = "".join(
        tag("figure", _rig(side, scene.theirs.rig_from_camera[0]) + tag("figcaption", words))
        for words, side in sides.items()
    )
    return tag("div", drawings, class_="rigs")


def _rig(scene: PosedScene, rig_from_first: Float[np.ndarray, "4 4"]) -> str:
    names = list(dict.fromkeys(scene.cameras))
    rows = [scene.cameras.index(name) for name in names]
    places = rig_from_first @ rigid.invert(scene.rig_from_camera[0]) @ scene.rig_from_camera[rows]
    unknown, none = np.full((len(names), 6, 6), np.nan), np.zeros(0, np.int64)
    unit = "m" if scene.is_metric else "units"
    return rig_from_above(places, unknown, np.zeros((0, 4, 4)), none, names, unit)
