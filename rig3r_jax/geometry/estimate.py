"""From what Rig3R predicts of one sample to a `schema.Estimate`: ray maps become cameras; float64."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.geometry.fit_lens import fitted_lenses
from rig3r_jax.geometry.lenses import Lenses, one_lens, stacked
from rig3r_jax.geometry.recover import RecoveredCamera, host_cameras_of
from rig3r_jax.schema import Estimate, Predictions


def estimate_of(
    predictions: Predictions,
    image_mask: Bool[np.ndarray, "v h w"],
    lenses: Sequence[Lens | None],
    wide: Sequence[bool] | None = None,
    alpha: float | None = None,
) -> Estimate:
    """Cameras and points of one sample, lengths in units of its mean depth, the world its reference camera.

    Args:
        predictions: of one sample, numpy, without the batch axis.
        image_mask: where the images that the model saw are no padding.
        lenses: of the images as the model saw them, where they are known. Others become pinholes whose focal lengths
            the predicted rays imply, Brown's too.
        wide: of images of unknown lenses, which are fisheyes: these are fitted to the rays (`fit_lens`). None: no one.
        alpha: weight of -log(confidence) in the loss that the model was trained by, C |e| - alpha log C, which is least
            where C = alpha / |e|: the expected distance of a point is alpha / C. None: errors are not told.
    """
    wide = [False] * len(lenses) if wide is None else wide
    used: list[Lens] = list(lenses)
    world_from_camera, rig_from_camera = np.zeros((2, len(used), 4, 4))
    how = ["stated" if lens else "wide" if is_wide else "pinhole" for lens, is_wide in zip(used, wide, strict=True)]
    how = np.array(how)
    for rows in (np.flatnonzero(how == name) for name in np.unique(how)):
        mask, of_rows = image_mask[rows], None
        if how[rows[0]] == "stated":
            of_rows = stacked([used[row] for row in rows])
        elif how[rows[0]] == "wide":
            of_rows = fitted_lenses(predictions.pose_directions[rows], mask, np.ones(len(rows), bool))
        cameras = host_cameras_of(predictions.pose_directions[rows], predictions.pose_center[rows], mask, of_rows)
        world_from_camera[rows] = cameras.a_from_camera
        for place, row in enumerate(rows):
            if how[row] != "stated":
                used[row] = one_lens(of_rows, place) if of_rows else Pinhole(cameras.intrinsics[place])
        in_rig = _in_rig(predictions, rows, mask, stacked([used[row] for row in rows]))
        rig_from_camera[rows] = in_rig.a_from_camera
    return Estimate(
        world_from_camera=world_from_camera,
        lenses=tuple(used),
        points=predictions.points.astype(np.float64),
        confidence=predictions.confidence,
        error=None if alpha is None else alpha / predictions.confidence,
        rig_from_camera=rig_from_camera,
    )


def _in_rig(predictions: Predictions, rows: np.ndarray, mask: np.ndarray, lenses: Lens | Lenses) -> RecoveredCamera:
    return host_cameras_of(predictions.rig_directions[rows], predictions.rig_center[rows], mask, lenses)
