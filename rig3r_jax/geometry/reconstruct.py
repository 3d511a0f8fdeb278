"""From what a model predicts of one sample to a `schema.Reconstruction`: one length unit, original pixels, float64."""

import dataclasses
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.geometry import align, rigid
from rig3r_jax.geometry.camera import Lens, Pinhole, stride_pixels
from rig3r_jax.geometry.fit_lens import fitted_lenses
from rig3r_jax.geometry.lenses import one_lens, stacked
from rig3r_jax.geometry.recover import host_cameras_of
from rig3r_jax.schema import Crop, PhysicalCamera, PointMaps, PosedImage, Predictions, Reconstruction, Scale, Views


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
    """The reconstruction of one sample; the world is its reference camera.

    Args:
        predictions: of one sample, numpy, without the batch axis.
        views: what the model saw of it, likewise.
        sources: the images, in the order of the sample. Images without a lens become pinholes whose focal lengths the
            predicted rays imply, Brown's too; or fisheyes fitted to them (`fit_lens`), where they are said to be wide.
        cameras: the rig as far as it is known; its rig_from_camera in metres.
        scale: metres over predicted lengths. None: from the baselines of the given rig, and where these do not tell,
            lengths stay those predicted, in units of the scene.
    """
    scale = scale or rig_scale(predictions, sources, cameras) or Scale(1.0, "none")
    crops = [_crop_of(image, views.image_mask.shape[1:3]) for image in sources]
    lenses, world_from_camera = _recover(predictions, views, sources, crops, scale.factor)
    images = [
        PosedImage(
            name=image.name,
            width=image.width,
            height=image.height,
            lens=lenses[index],
            world_from_camera=world_from_camera[index],
            camera=image.camera,
            time=image.time,
            crop=image.crop,
        )
        for index, image in enumerate(sources)
    ]
    wide = np.array([image.lens.wide for image in images])
    points = _point_maps(predictions, views, crops, world_from_camera, wide, scale.factor)
    unit = "scene" if scale.source == "none" else "metre"
    return Reconstruction(tuple(images), tuple(cameras), unit, scale, points)


def seen_lens(lens: Lens, crop: Crop) -> Lens:
    """The lens of what the network saw, of that of the original image."""
    return lens.crop(crop.left, crop.top).resize(crop.seen_width / crop.width, crop.seen_height / crop.height)


def original_lens(lens: Lens, crop: Crop) -> Lens:
    """Inverse of `seen_lens`."""
    return lens.resize(crop.width / crop.seen_width, crop.height / crop.seen_height).crop(-crop.left, -crop.top)


def rig_scale(
    predictions: Predictions, sources: Sequence[SourceImage], cameras: Sequence[PhysicalCamera]
) -> Scale | None:
    """Metres over predicted lengths, from the baselines of the rig; None where these do not tell, as of one camera."""
    centers_rig = {camera.id: camera.rig_from_camera[:3, 3] for camera in cameras if camera.rig_from_camera is not None}
    mask = np.array([image.camera in centers_rig for image in sources])
    centers = np.stack([centers_rig.get(image.camera, np.zeros(3)) for image in sources])
    factor = float(align.metric_scale(jnp.asarray(predictions.rig_center), jnp.asarray(centers), jnp.asarray(mask)))
    return Scale(factor, "rig baselines") if math.isfinite(factor) and factor > 0 else None


def _crop_of(image: SourceImage, size: tuple[int, int]) -> Crop:
    """What the network saw of an image; `size` is the height and width of its input."""
    whole = Crop(0.0, 0.0, float(image.width), float(image.height), image.width, image.height)
    crop = image.crop or whole
    if (crop.seen_height, crop.seen_width) != size:
        seen = f"{crop.seen_width}x{crop.seen_height}"
        raise ValueError(f"{image.name}: was seen at {seen} pixels, but the model's input is {size[1]}x{size[0]}")
    return crop


def _recover(
    predictions: Predictions, views: Views, sources: Sequence[SourceImage], crops: Sequence[Crop], factor: float
) -> tuple[list[Lens], Float[np.ndarray, "v 4 4"]]:
    """Lenses of the original images and world_from_camera, by images with a given lens, wide ones and others."""
    lenses: list[Lens] = [image.lens for image in sources]
    world_from_camera = np.zeros((len(sources), 4, 4))
    how = np.array(["given" if image.lens else "wide" if image.wide else "pinhole" for image in sources])
    for rows in (np.flatnonzero(how == name) for name in np.unique(how)):
        directions, mask = predictions.pose_directions[rows], views.image_mask[rows]
        seen = None
        if how[rows[0]] == "given":
            seen = stacked([seen_lens(lenses[row], crops[row]) for row in rows])
        elif how[rows[0]] == "wide":
            seen = fitted_lenses(directions, mask, np.ones(len(rows), bool))
        cameras = host_cameras_of(directions, predictions.pose_center[rows] * factor, mask, seen)
        world_from_camera[rows] = cameras.a_from_camera
        for place, row in enumerate(rows):
            if how[row] != "given":
                lens = Pinhole(cameras.intrinsics[place]) if seen is None else one_lens(seen, place)
                lenses[row] = original_lens(lens, crops[row])
    return lenses, world_from_camera


def _point_maps(
    predictions: Predictions,
    views: Views,
    crops: Sequence[Crop],
    world_from_camera: Float[np.ndarray, "v 4 4"],
    wide: Bool[np.ndarray, " v"],
    factor: float,
) -> PointMaps:
    """Points, depths and colours at the pixels of the model's grid; depth of `wide` lenses is along the ray."""
    grid = predictions.points.shape[1:3]
    rows, columns = (stride_pixels(*sizes) for sizes in zip(views.image_mask.shape[1:3], grid, strict=True))
    points_world = predictions.points.astype(np.float64) * factor
    z_from_world = rigid.invert(world_from_camera)[:, 2]
    depth = np.einsum("vj,vhwj->vhw", z_from_world[:, :3], points_world) + z_from_world[:, 3, None, None]
    depth[wide] = np.linalg.norm(points_world[wide] - world_from_camera[wide, None, None, :3, 3], axis=-1)
    images = np.asarray(views.images[:, rows[:, None], columns])
    if images.dtype != np.uint8:
        images = np.clip(np.round(images * 255.0), 0, 255).astype(np.uint8)
    return PointMaps(
        pixels=np.stack([_original_pixels(rows, columns, crop) for crop in crops]),
        points_world=points_world,
        depth=depth,
        confidence=predictions.confidence,
        on_image=views.image_mask[:, rows[:, None], columns],
        colors=images,
    )


def _original_pixels(rows: np.ndarray, columns: np.ndarray, crop: Crop) -> Float[np.ndarray, "hp wp 2"]:
    u = crop.left + (columns + 0.5) * (crop.width / crop.seen_width)
    v = crop.top + (rows + 0.5) * (crop.height / crop.seen_height)
    return np.stack(np.meshgrid(u, v), axis=-1)
