"""What was found out of the rig that took photographs: a table, a verdict, files, a calibration held against it."""

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rig3r_jax.exports.export import export_file
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.formats.json_file import write_json
from rig3r_jax.formats.markdown import number, table
from rig3r_jax.formats.plain_name import check_plain_name
from rig3r_jax.geometry.fusion.refine_rig import RefinedRig
from rig3r_jax.geometry.rig_check import FALSE_ALARM, RigCheck, check_rig
from rig3r_jax.geometry.rig_discovery import DiscoveredRig
from rig3r_jax.geometry.rig_motion import moved_cameras
from rig3r_jax.schema import Reconstruction
from rig3r_jax.viz.rig_from_above import rig_from_above


@dataclasses.dataclass(frozen=True)
class RigDiscovery:
    """A rig found out from photographs.

    rig: what was found, in the frame and unit of the predictions, or of calibrated cameras.
    names: of the cameras, by number.
    predicted: rig_from_camera of every image, which `rig` is of.
    reconstruction: the images and the cameras with lenses, certainties and places in the first camera's frame, or that
        of calibrated ones.
    notes: what to know of the model and its passes.
    refined: the rig's places and its pose at every step, with covariances, where these were fitted together.
    """

    rig: DiscoveredRig
    names: tuple[str, ...]
    predicted: Float[np.ndarray, "v 4 4"]
    reconstruction: Reconstruction
    notes: tuple[str, ...] = ()
    refined: RefinedRig | None = None

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
        covariance = self.rig.covariance_in_frame
        for index, camera in enumerate(self.reconstruction.cameras):
            place, sigmas = camera.rig_from_camera, np.sqrt(np.diagonal(covariance[index]))
            turn = np.degrees(np.linalg.norm(Rotation.from_matrix(place[:3, :3]).as_rotvec()))
            rows.append([
                camera.name, str(np.sum(self.rig.camera == index)), number(100 * camera.certainty, ".3g"),
                " ".join(f"{value:.3f}" for value in place[:3, 3]), number(sigmas[0], ".2g"),
                number(turn, ".2f"), number(np.degrees(sigmas[3]), ".2g"),
            ])  # fmt: skip
        head = ["camera", "images", "sure %", f"place x y z, {self.unit}", "+-", "turn, degrees", "+-"]
        return table(head, rows)

    def save(self, out: str | Path) -> tuple[Path, ...]:
        """Writes cameras.json, rig_config.json, rig.svg and images/<camera>/<step> (links) into the folder `out`; of a
        refined rig also rig_refined.json.

        The links are COLMAP's rig layout; there are none of images in memory, nor of those without a camera.
        """
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        written = [out / "cameras.json", out / "rig_config.json", out / "rig.svg"]
        export_file(self.reconstruction, "cameras", written[0])
        export_file(self._in_folders(), "rig", written[1])
        write_atomically(written[2], self.drawing().encode("utf-8"))
        if self.refined is not None:
            written.append(out / "rig_refined.json")
            write_json(written[-1], self._refined_json())
        if self.reconstruction.image_folder is not None:
            written.append(out / "images")
            self._link(out)
        return tuple(written)

    def drawing(self) -> str:
        """SVG: the rig from above with ellipses of uncertainty."""
        frame_from_rig = self.rig.frame_from_rig
        finite = np.isfinite(self.predicted).all(axis=(1, 2)) & (self.rig.camera >= 0)
        return rig_from_above(
            frame_from_rig @ self.rig.rig_from_camera,
            self.rig.covariance_in_frame,
            frame_from_rig @ moved_cameras(self.rig.rig_from_predicted, self.predicted[finite]),
            self.rig.camera[finite],
            self.names,
            self.unit,
        )

    def check(self, calibration: RigCalibration, false_alarm: float = FALSE_ALARM) -> RigCheck:
        """The calibration held against the images, which lie in folders of its cameras' names."""
        rows = {camera.name: row for row, camera in enumerate(calibration.cameras)}
        if unplaced := [camera.name for camera in calibration.cameras if camera.rig_from_camera is None]:
            raise ValueError(f"the calibration does not say where {unplaced[0]} sits in the rig; add its place")
        camera = np.array([rows.get(self.names[index], -1) if index >= 0 else -1 for index in self.rig.camera])
        calibrated = np.stack([camera.rig_from_camera for camera in calibration.cameras])
        return check_rig(calibrated, self.predicted, camera, false_alarm=false_alarm)

    def _refined_json(self) -> dict[str, object]:
        """Covariances are of tangents (v, w) in pose exp(v, w): lengths in `unit`, then radians."""
        refined = self.refined
        cameras = zip(self.names, refined.rig_from_camera, refined.covariance, strict=True)
        steps = zip(refined.steps.tolist(), refined.world_from_rig, refined.rig_covariance, strict=True)
        return {
            "unit": self.unit,
            "cameras": [
                {"name": name, "rig_from_camera": place.tolist(), "covariance": covariance.tolist()}
                for name, place, covariance in cameras
            ],
            "steps": [
                {"step": step, "world_from_rig": pose.tolist(), "covariance": covariance.tolist()}
                for step, pose, covariance in steps
            ],
        }

    def _in_folders(self) -> Reconstruction:
        """With the images where `_link` puts them."""
        names = self._link_names()
        images = tuple(
            dataclasses.replace(image, name=names.get(row, f"other/{image.name}"))
            for row, image in enumerate(self.reconstruction.images)
        )
        return dataclasses.replace(self.reconstruction, images=images, points=None)

    def _link_names(self) -> dict[int, str]:
        """By number of the image, of those with a camera.

        Images of one number were taken together, so one of no known step has a number of its own. ValueError for a
        camera whose name leads out of the folder.
        """
        steps = np.full(len(self.rig.camera), -1) if self.rig.step is None else self.rig.step
        alone = itertools.count(int(steps.max(initial=-1)) + 1)
        names = {}
        for row, (camera, step) in enumerate(zip(self.rig.camera.tolist(), steps.tolist(), strict=True)):
            if camera >= 0:
                suffix = Path(self.reconstruction.images[row].name).suffix
                names[row] = f"{self.names[camera]}/{step if step >= 0 else next(alone):06d}{suffix}"
                check_plain_name(f"camera {self.names[camera]!r}: image", names[row])
        return names

    def _link(self, out: Path) -> None:
        for row, name in self._link_names().items():
            link = out / "images" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(Path(self.reconstruction.image_folder) / self.reconstruction.images[row].name, link)
