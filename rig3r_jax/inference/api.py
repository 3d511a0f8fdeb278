"""Reconstruction from Python: `load` a model, give it images and what is known of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.inference.from_python import AnyImages, AnyLenses, AnyRig, gathered
from rig3r_jax.inference.known import METRE
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.plan import plan
from rig3r_jax.inference.reconstruct import reconstruct
from rig3r_jax.inference.result import Reconstruction
from rig3r_jax.inference.rig import find_rig
from rig3r_jax.inference.rig_result import RigDiscovery


def load(path: str | Path) -> "LoadedModel":
    """The model of a workdir of `rig3r train`, or of a file of weights (`inference.models.open`); "demo" is one that
    comes with the package.

    ValueError or FileNotFoundError in one line for what is neither.
    """
    return LoadedModel(open_model(path))


@dataclasses.dataclass(frozen=True, repr=False)
class LoadedModel:
    """A model ready for images."""

    model: Model

    def reconstruct(
        self,
        images: AnyImages,
        *,
        intrinsics: AnyLenses = None,
        cameras: Sequence[str | None] | None = None,
        times: Sequence[float | None] | np.ndarray | None = None,
        rig: AnyRig = None,
        poses: Sequence[np.ndarray | None] | np.ndarray | None = None,
        masks: Sequence[np.ndarray | str | Path | None] | np.ndarray | None = None,
        scale: float | None = None,
        pose_unit: str = METRE,
        tell: Callable[[str], None] | None = None,
        **options,
    ) -> Reconstruction:
        """Cameras and points of images of one scene, in the order of the images.

        What is known is optional, each of any image: None (of poses NaN, too) where it is not. It comes out as it went
        in. All is of the images as viewers show them: upright where EXIF says that they lie on their side; pixels are
        counted from the outer corner, so that the first one's centre is (0.5, 0.5).

        Args:
            images: paths, arrays (h, w, 3) of RGB bytes, PIL images, or a folder (see `find_photographs`). Sizes may
                differ.
            intrinsics: one for all, one per image, or by name of the physical camera: (3, 3) matrices of pinholes, or
                lenses of `geometry.camera`. Where a lens is given of some images of a named camera, its others of
                their size have it too.
            cameras: name of the physical camera of each image; images of a rig's folder have that of their folder.
            times: seconds, None or NaN where not known. Images of a rig of equal time were taken together; without
                times the n-th images of all cameras were.
            rig: rig_from_camera in metres by name of the camera, a `formats.calibration.RigCalibration`, or a file
                of COLMAP or Kalibr.
            poses: world_from_camera, OpenCV's axes.
            masks: arrays (h, w), nonzero or true where the image counts, or image files; black pixels become no points.
            scale: metres over lengths as they come out without it, where that is known.
            pose_unit: "metre", or "scene" where the poses' lengths are known only up to a factor.
            tell: such as `print`; is given a line before the model is compiled, one of the plan, and one per pass.
            **options: fields of `inference.options.ReconstructOptions`.

        Raises:
            ValueError: what is given does not fit the images or one another; names the image.
            BadRecord: an image that does not decode; a ValueError, too.
        """
        how = _options(options)
        inputs = gathered(
            images,
            intrinsics=intrinsics,
            cameras=cameras,
            times=times,
            rig=rig,
            poses=poses,
            masks=masks,
            scale=scale,
            pose_unit=pose_unit,
        )
        planned = plan(self.model, inputs.image_sizes, how, tell)
        result = reconstruct(self.model, inputs.folder, inputs.photographs, inputs.known, planned, how, tell)
        return dataclasses.replace(result, notes=(*inputs.notes, *result.notes))

    def __repr__(self) -> str:
        return f"LoadedModel({self.model.name})"

    def discover_rig(
        self,
        images: AnyImages,
        *,
        cameras: Sequence[str | None] | None = None,
        times: Sequence[float | None] | None = None,
        intrinsics: AnyLenses = None,
        rig: AnyRig = None,
        camera_count: int | None = None,
        refine: bool = False,
        scale: float | None = None,
        **options,
    ) -> RigDiscovery:
        """The rig that took the images: cameras, which image is of which, places, time steps, and how sure these are.

        Arguments and errors as of `reconstruct`; without `times` the steps are found too. `rig`: places of some
        cameras, which are held and give frame and unit; `camera_count`: where known; `refine`: places are fitted to the
        poses of all steps, too.
        """
        how = _options(options)
        inputs = gathered(images, intrinsics=intrinsics, cameras=cameras, times=times, rig=rig, scale=scale)
        photographs = inputs.photographs
        if cameras is not None and times is None:
            # The places among a camera's images are no steps where cameras are known in part.
            photographs = [dataclasses.replace(photograph, step=None) for photograph in photographs]
        planned = plan(self.model, inputs.image_sizes, how)
        result = find_rig(self.model, inputs.folder, photographs, inputs.known, planned, how, camera_count, refine)
        return dataclasses.replace(result, notes=(*inputs.notes, *result.notes))


def _options(options: Mapping[str, object]) -> ReconstructOptions:
    fields = [field.name for field in dataclasses.fields(ReconstructOptions)]
    if unknown := [name for name in options if name not in fields]:
        raise TypeError(f"reconstruct has no option {unknown[0]!r}; options: {', '.join(fields)}")
    return ReconstructOptions(**options)
