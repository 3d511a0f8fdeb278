"""From what a model predicts of one sample to a `schema.Reconstruction`: one length unit, original pixels, float64."""

import dataclasses
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import align, rigid
from rig3r_jax.geometry.camera import Lens, stride_pixels
from rig3r_jax.geometry.estimate import estimate_of
from rig3r_jax.schema import (
    Crop,
    Estimate,
    PhysicalCamera,
    PointMaps,
    PosedImage,
    Predictions,
    Reconstruction,
    Scale,
    Views,
)


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """An image as it came, before a network saw it; what is not known is None."""

    name: str
    width: int  # pixels of the original
    height: int
    crop: Crop | None = None  # None: the network saw all of it at its own size
    lens: Lens | None = None  # of the original image
    wide: bool = False  # where the lens is not known: a fisheye, which is fitted, not a pinhole
    camera: int | None = None  # id of its physical camera
    time: float | None = None  # seconds since the first image


def reconstruction_of(
    predictions: Predictions,
    views: Views,
    sources: Sequence[SourceImage],
    cameras: Sequence[PhysicalCamera] = (),
    scale: Scale | None = None,
) -> Reconstruction:
    """The reconstruction of one sample of Rig3R; the world is its reference camera.

    Args:
        predictions: of one sample, numpy, without the batch axis.
        views: what the model saw of it, likewise.
        sources: the images, in the order of the sample. Images without a lens become pinholes whose focal lengths the
            predicted rays imply, Brown's too; or fisheyes fitted to them (`fit_lens`), where they are said to be wide.
        cameras: the rig as far as it is known; its rig_from_camera in metres.
        scale: metres over predicted lengths. None: from the baselines of the given rig, and where these do not tell,
            lengths stay those predicted, in units of the scene.
    """
    scale = scale or rig_scale(predictions.rig_center, sources, cameras) or Scale(1.0, "none")
    crops = [crop_of(image, views.image_mask.shape[1:3]) for image in sources]
    lenses_seen = [image.lens and seen_lens(image.lens, crop) for image, crop in zip(sources, crops, strict=True)]
    estimate = estimate_of(predictions, views.image_mask, lenses_seen, [image.wide for image in sources])
    images = []
    for index, (image, crop) in enumerate(zip(sources, crops, strict=True)):
        world_from_camera = estimate.world_from_camera[index].copy()
        world_from_camera[:3, 3] *= scale.factor
        images.append(
            PosedImage(
                name=image.name,
                width=image.width,
                height=image.height,
                lens=image.lens or original_lens(estimate.lenses[index], crop),
                world_from_camera=world_from_camera,
                camera=image.camera,
                time=image.time,
                crop=image.crop,
                lens_source="given" if image.lens else "predicted",
                pose_source="predicted",
            )
        )
    factors = np.full(len(images), scale.factor)
    points = point_maps(estimate, views, crops, np.stack([image.world_from_camera for image in images]), factors)
    unit = "scene" if scale.source == "none" else "metre"
    return Reconstruction(tuple(images), tuple(cameras), unit, scale, points)


def seen_lens(lens: Lens, crop: Crop) -> Lens:
    """The lens of what the network saw, of that of the original image."""
    return lens.crop(crop.left, crop.top).resize(crop.seen_width / crop.width, crop.seen_height / crop.height)


def original_lens(lens: Lens, crop: Crop) -> Lens:
    """Inverse of `seen_lens`."""
    return lens.resize(crop.width / crop.seen_width, crop.height / crop.seen_height).crop(-crop.left, -crop.top)


def rig_scale(
    centers_predicted: Float[np.ndarray, "v 3"], sources: Sequence[SourceImage], cameras: Sequence[PhysicalCamera]
) -> Scale | None:
    """Metres over predicted lengths, from the baselines of the rig; None where these do not tell, as of one camera.

    `centers_predicted` are the cameras' predicted centres in the rig's frame.
    """
    centers_rig = {camera.id: camera.rig_from_camera[:3, 3] for camera in cameras if camera.rig_from_camera is not None}
    mask = np.array([image.camera in centers_rig for image in sources])
    centers = np.stack([centers_rig.get(image.camera, np.zeros(3)) for image in sources])
    factor = float(align.metric_scale(jnp.asarray(centers_predicted), jnp.asarray(centers), jnp.asarray(mask)))
    return Scale(factor, "rig baselines") if math.isfinite(factor) and factor > 0 else None


def crop_of(image: SourceImage, size: tuple[int, int]) -> Crop:
    """What the network saw of an image; `size` is the height and width of its input."""
    whole = Crop(0.0, 0.0, float(image.width), float(image.height), image.width, image.height)
    crop = image.crop or whole
    if (crop.seen_height, crop.seen_width) != size:
        seen = f"{crop.seen_width}x{crop.seen_height}"
        raise ValueError(f"{image.name}: was seen at {seen} pixels, but the model's input is {size[1]}x{size[0]}")
    return crop


def point_maps(
    estimate: Estimate,
    views: Views,
    crops: Sequence[Crop],
    world_from_camera: Float[np.ndarray, "v 4 4"],
    factors: Float[np.ndarray, " v"],
) -> PointMaps:
    """Points, depths and colours at the pixels of the model's grid.

    Args:
        estimate: of one pass. Points keep their places before their own camera, whatever becomes of its pose.
        views: what the model saw; its masks say which pixels have points.
        crops: what it saw of each image.
        world_from_camera: the poses that the images have in the end, in the length unit of the result.
        factors: lengths of the result over those of the estimate, for each image.
    """
    grid = estimate.points.shape[1:3]
    rows, columns = (stride_pixels(*sizes) for sizes in zip(views.image_mask.shape[1:3], grid, strict=True))
    stretched = estimate.world_from_camera.copy()
    stretched[:, :3, 3] *= factors[:, None]
    world_from_estimate = world_from_camera @ rigid.invert(stretched)
    points = estimate.points * factors[:, None, None, None]
    points_world = np.einsum("vij,vhwj->vhwi", world_from_estimate[:, :3, :3], points)
    points_world += world_from_estimate[:, None, None, :3, 3]
    z_from_world = rigid.invert(world_from_camera)[:, 2]
    depth = np.einsum("vj,vhwj->vhw", z_from_world[:, :3], points_world) + z_from_world[:, 3, None, None]
    wide = np.array([lens.wide for lens in estimate.lenses])
    depth[wide] = np.linalg.norm(points_world[wide] - world_from_camera[wide, None, None, :3, 3], axis=-1)
    images = np.asarray(views.images[:, rows[:, None], columns])
    if images.dtype != np.uint8:
        images = np.clip(np.round(images * 255.0), 0, 255).astype(np.uint8)
    return PointMaps(
        pixels=np.stack([_original_pixels(rows, columns, crop) for crop in crops]),
        points_world=points_world,
        depth=depth,
        confidence=estimate.confidence,
        on_image=views.image_mask[:, rows[:, None], columns],
        colors=images,
        error=None if estimate.error is None else estimate.error * factors[:, None, None],
    )


def _original_pixels(rows: np.ndarray, columns: np.ndarray, crop: Crop) -> Float[np.ndarray, "hp wp 2"]:
    u = crop.left + (columns + 0.5) * (crop.width / crop.seen_width)
    v = crop.top + (rows + 0.5) * (crop.height / crop.seen_height)
    return np.stack(np.meshgrid(u, v), axis=-1)
