"""The rig of photographs found out by a model: passes, one place per image, discovery, files."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from rig3r_jax.exports.export import export_file
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.formats.markdown import number, table
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion.problem import WindowPoses
from rig3r_jax.geometry.fusion.refine_rig import refine_rig
from rig3r_jax.geometry.rig_check import FALSE_ALARM, RigCheck, check_rig
from rig3r_jax.geometry.rig_discovery import DiscoveredRig, discover_rig
from rig3r_jax.inference.assemble import assembled
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.pass_store import opened_store
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.placement import Placement, place
from rig3r_jax.inference.plan import Plan
from rig3r_jax.inference.shots import Shot, read_shots
from rig3r_jax.inference.windowed import WindowOptions, windowed_passes
from rig3r_jax.schema import PhysicalCamera, Reconstruction
from rig3r_jax.viz.rig_from_above import rig_from_above


@dataclasses.dataclass(frozen=True)
class RigFound:
    """A rig found out from photographs.

    rig: what was found, in the frame and unit of the predictions brought to those of `reconstruction`.
    names: of the cameras, by number.
    predicted: rig_from_camera of every image, which `rig` is of.
    reconstruction: the images and the cameras with lenses, certainties and places in the first camera's frame.
    notes: what to know of the model and its passes.
    """

    rig: DiscoveredRig
    names: tuple[str, ...]
    predicted: Float[np.ndarray, "v 4 4"]
    reconstruction: Reconstruction
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> tuple[str, ...]:
        """What was found, and what the images do not say, in sentences."""
        return self.rig.verdict

    @property
    def unit(self) -> str:
        """Of lengths."""
        return "m" if self.reconstruction.length_unit == "metre" else "units"

    def table(self) -> str:
        """Markdown: a row per camera."""
        rows = []
        for index, camera in enumerate(self.reconstruction.cameras):
            place, sigmas = camera.rig_from_camera, np.sqrt(np.diagonal(self.rig.covariance[index]))
            turn = np.degrees(np.linalg.norm(Rotation.from_matrix(place[:3, :3]).as_rotvec()))
            rows.append([
                camera.name, str(np.sum(self.rig.camera == index)), number(100 * camera.certainty, ".3g"),
                " ".join(f"{value:.3f}" for value in place[:3, 3]), number(sigmas[0], ".2g"),
                number(turn, ".2f"), number(np.degrees(sigmas[3]), ".2g"),
            ])  # fmt: skip
        head = ["camera", "images", "sure %", f"place x y z, {self.unit}", "+-", "turn from first, degrees", "+-"]
        return table(head, rows)

    def save(self, out: str | Path) -> tuple[Path, ...]:
        """Writes cameras.json, rig_config.json, rig.svg and images/<camera>/<step> (links) into the folder `out`.

        The links are COLMAP's rig layout; there are none of images in memory, nor of those without a camera.
        """
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        written = [out / "cameras.json", out / "rig_config.json", out / "rig.svg"]
        export_file(self.reconstruction, "cameras", written[0])
        export_file(self._in_folders(), "rig", written[1])
        write_atomically(written[2], self.drawing().encode("utf-8"))
        if self.reconstruction.image_folder is not None:
            written.append(out / "images")
            self._link(out)
        return tuple(written)

    def drawing(self) -> str:
        """SVG: the rig from above with ellipses of uncertainty."""
        first_from_rig = rigid.invert(self.rig.rig_from_camera[0])
        finite = np.isfinite(self.predicted).all(axis=(1, 2)) & (self.rig.camera >= 0)
        return rig_from_above(
            first_from_rig @ self.rig.rig_from_camera,
            self.rig.covariance,
            first_from_rig @ self.predicted[finite],
            self.rig.camera[finite],
            self.names,
            self.unit,
        )

    def check(self, calibration: RigCalibration, false_alarm: float = FALSE_ALARM) -> RigCheck:
        """The calibration held against the images, which lie in folders of its cameras' names."""
        rows = {camera.name: row for row, camera in enumerate(calibration.cameras)}
        camera = np.array([rows.get(self.names[index], -1) if index >= 0 else -1 for index in self.rig.camera])
        known = np.stack([camera.rig_from_camera for camera in calibration.cameras])
        return check_rig(known, self.predicted, camera, false_alarm=false_alarm)

    def _in_folders(self) -> Reconstruction:
        """With the images where `_link` puts them."""
        names = self._link_names()
        images = tuple(
            dataclasses.replace(image, name=names.get(row, f"other/{image.name}"))
            for row, image in enumerate(self.reconstruction.images)
        )
        return dataclasses.replace(self.reconstruction, images=images, points=None)

    def _link_names(self) -> dict[int, str]:
        """By number of the image, of those with a camera."""
        step = self.rig.step
        seen: dict[int, int] = {}
        names = {}
        for row, camera in enumerate(self.rig.camera.tolist()):
            if camera < 0:
                continue
            place = seen.get(camera, 0) if step is None else int(step[row])
            seen[camera] = seen.get(camera, 0) + 1
            suffix = Path(self.reconstruction.images[row].name).suffix
            names[row] = f"{self.names[camera]}/{place:06d}{suffix}"
        return names

    def _link(self, out: Path) -> None:
        for row, name in self._link_names().items():
            link = out / "images" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(Path(self.reconstruction.image_folder) / self.reconstruction.images[row].name, link)


def find_rig(
    model: Model,
    folder: Path | None,
    photographs: Sequence[Photograph],
    known: Known,
    planned: Plan,
    options: ReconstructOptions | None = None,
    camera_count: int | None = None,
    refine: bool = False,
    tell: Callable[[str], None] | None = None,
) -> RigFound:
    """The rig of the photographs, by what the model says of the cameras' places in it.

    Cameras of photographs in folders of their own are known, as are steps where photographs have any; else they are
    found. Arguments as of `reconstruct.reconstruct`; camera_count: where it is known; refine: places are fitted to
    the poses of all passes too (`geometry.fusion.refine_rig`).

    ValueError for a model that says nothing of rigs, and as `reconstruct` and `geometry.rig_discovery` say.
    """
    options = options or ReconstructOptions()
    shots = read_shots(photographs, known, planned.size, model.fill)
    windows = WindowOptions(planned.views, ordered=not options.unordered, points=options.points)
    with opened_store(options.cache, model.digest if options.cache else "") as store:
        passes, notes = windowed_passes(model, shots, windows, store, options.wide, tell)
        if any(one.rig_from_camera is None for one in passes):
            raise ValueError(f"{model.name} says nothing of cameras in a rig; give a run of Rig3R")
        placement = place(passes, shots, known, options.refine)
        predicted = _predicted(passes, placement, len(shots))
        metric = placement.scale.source != "none"
        names, camera = _known_cameras(shots)
        rig = discover_rig(
            predicted,
            world_from_camera=placement.world_from_camera,
            step=_steps(shots),
            camera=camera,
            camera_count=camera_count,
            unit="m" if metric else "units",
        )
        if refine:
            rig = _refined(rig, passes)
        names = tuple(names.get(index, f"camera{index}") for index in range(len(rig.rig_from_camera)))
        named = [_named(shot, rig, names, row) for row, shot in enumerate(shots)]
        reconstruction = dataclasses.replace(assembled(folder, named, passes, placement), points=None)
    notes = [*model.notes, *([model.licence] if model.licence else []), *notes, *placement.notes]
    return RigFound(rig, names, predicted, _with_places(reconstruction, rig, names), tuple(notes))


def _predicted(passes: Sequence[Pass], placement: Placement, count: int) -> Float[np.ndarray, "v 4 4"]:
    """Of every image by the pass whose points of it are surest, in the placement's unit."""
    predicted, best = np.full((count, 4, 4), np.nan), np.full(count, -1.0)
    for one_pass, factor in zip(passes, placement.factors, strict=True):
        surer = one_pass.confidence > best[one_pass.rows]
        rows = one_pass.rows[surer]
        best[rows] = one_pass.confidence[surer]
        predicted[rows] = one_pass.rig_from_camera[surer]
        predicted[rows, :3, 3] *= factor
    return predicted


def _refined(rig: DiscoveredRig, passes: Sequence[Pass]) -> DiscoveredRig:
    """With places and covariances that fit the poses of all passes, in the first camera's unit and place."""
    usable = (rig.camera >= 0) & (rig.step >= 0)
    if len(rig.rig_from_camera) < 2 or not usable.all():
        raise ValueError(
            f"{len(rig.rig_from_camera)} cameras, {int(np.sum(~usable))} images without a camera or step: refining "
            "wants two cameras and all images on the rig; leave --refine out"
        )
    windows = [WindowPoses(one.rows, one.world_from_camera, one.joining_covariance) for one in passes]
    refined = refine_rig(windows, rig.rig_from_camera, rig.camera, rig.step)
    return dataclasses.replace(rig, rig_from_camera=refined.rig_from_camera, covariance=refined.covariance)


def _known_cameras(shots: Sequence[Shot]) -> tuple[dict[int, str], Int[np.ndarray, " v"]]:
    """Names of the cameras that folders tell, by number; the number of every image's, -1 of none."""
    names = dict.fromkeys(shot.photograph.camera for shot in shots if shot.photograph.camera is not None)
    numbers = {name: index for index, name in enumerate(names)}
    return dict(enumerate(names)), np.array([numbers.get(shot.photograph.camera, -1) for shot in shots])


def _steps(shots: Sequence[Shot]) -> Int[np.ndarray, " v"] | None:
    """Of the rig, or of equal times; None where neither is known of any image."""
    times = sorted({shot.time for shot in shots if shot.time is not None})
    numbers = {time: step for step, time in enumerate(times)}
    steps = [shot.photograph.step if shot.photograph.step is not None else numbers.get(shot.time) for shot in shots]
    return None if all(step is None for step in steps) else np.array([-1 if step is None else step for step in steps])


def _named(shot: Shot, rig: DiscoveredRig, names: Sequence[str], row: int) -> Shot:
    camera = None if rig.camera[row] < 0 else names[rig.camera[row]]
    return dataclasses.replace(shot, photograph=dataclasses.replace(shot.photograph, camera=camera))


def _with_places(reconstruction: Reconstruction, rig: DiscoveredRig, names: Sequence[str]) -> Reconstruction:
    """Cameras by number of the rig, in the first one's frame."""
    first_from_rig = rigid.invert(rig.rig_from_camera[0])
    lenses = {camera.name: camera.lens for camera in reconstruction.cameras}
    ids = {camera.id: names.index(camera.name) for camera in reconstruction.cameras}
    cameras = tuple(
        PhysicalCamera(
            index,
            name,
            lenses.get(name),
            np.eye(4) if index == 0 else first_from_rig @ rig.rig_from_camera[index],
            "discovered",
            float(rig.camera_certainty[index]),
        )
        for index, name in enumerate(names)
    )
    images = tuple(
        dataclasses.replace(image, camera=None if image.camera is None else ids[image.camera])
        for image in reconstruction.images
    )
    return dataclasses.replace(reconstruction, images=images, cameras=cameras)
