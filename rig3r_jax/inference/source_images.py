"""Images of public data sets, through their sources: what the data set knows of them comes along."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rig3r_jax.data.frame_bytes import OUTSIDE, decode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.image_header import JPEG_START, exif_orientation
from rig3r_jax.data.scene import LeftOut, Scene
from rig3r_jax.data.source import Source, check_root, option_fields, options_from_words
from rig3r_jax.data.sources import make_source, source_class
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.plain_name import check_plain_name
from rig3r_jax.inference.known import METRE, SCENE, Known
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

_PNG_START = b"\x89PNG"


@dataclasses.dataclass(frozen=True)
class SourceImages:
    """The images of one scene, as files, and what its source states of them."""

    photographs: tuple[Photograph, ...]  # by step and camera
    known: Known  # all but the poses: rig, lenses, times, masks
    truth: Reconstruction | None  # cameras with their poses, to compare with, or to be given too; None: not known
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]  # images that the source could not use


def read_source(name: str, words: Sequence[str], out: Path, scene: str = "") -> SourceImages:
    """Reads one scene of a data set and writes its images to <out>/images, its masks to <out>/masks.

    Args:
        name: of the source, as of `build-data`.
        words: the root of the data, then options key=value. Recordings that sources cut into splits by time are taken
            whole, unless `fractions` is set.
        out: the folder of the reconstruction.
        scene: its name, or split/name; "" where there is one alone.

    Raises:
        ValueError: no such source, option or scene (naming those that there are), or a scene that cannot be read.
    """
    kind = source_class(name)
    if not words or (root := words[0]) and any("=" not in word for word in words[1:]):
        raise ValueError(
            f"--source {name}: give one folder, that of {kind.root_holds}, and options key=value behind it"
        )
    check_root(kind, root)
    settings = options_from_words(kind, words[1:])
    if "fractions" in option_fields(kind):
        settings = {"fractions": (1.0, 0.0, 0.0), "min_frames": 1} | settings
    source = make_source(name, root, settings)
    label, loaded = _load(source, scene)
    return _written(source, label, loaded, out)


def _load(source: Source, scene: str) -> tuple[str, Scene]:
    """split/name of the scene, and the scene."""
    loaders = {f"{split}/{name}": load for split in source.splits() for name, load in source.scenes(split)}
    fitting = [label for label in loaders if scene in ("", label, label.partition("/")[2])]
    if not fitting or (not scene and len(fitting) > 1):
        some = ", ".join([*loaders][:8]) + (f" and {len(loaders) - 8} more" if len(loaders) > 8 else "")
        state = f"has no scene {scene!r}" if scene else f"has {len(loaders)} scenes"
        raise ValueError(f"{source.root}: {state}; choose one by --scene: {some or 'there is none'}")
    return fitting[0], loaders[fitting[0]]()  # of one name in several splits, which show the same, the first


def _written(source: Source, label: str, scene: Scene, out: Path) -> SourceImages:
    is_rig = _is_rig(scene)
    metric = source.metric or getattr(source, "metres", 1.0) != 1.0
    photographs, lenses, times, masks, images = [], {}, {}, {}, []
    cameras = [CalibratedCamera(one.name, one.lens, one.size, one.rig_from_camera) for one in scene.cameras]
    for number, frame in enumerate(scene.frames):
        camera = cameras[frame.camera]
        data, suffix = _as_stored(frame.image)
        name = f"{camera.name}/{frame.step:06d}{suffix}"
        if name in lenses:
            name = f"{camera.name}/{frame.step:06d}_{number}{suffix}"
        check_plain_name(f"{source.root}, scene {scene.name}, camera {camera.name!r}: image", name)
        path = out / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        photographs.append(Photograph(path, name, camera.name, frame.step))
        lenses[name], times[name] = dataclasses.replace(camera, rig_from_camera=None), frame.time
        if frame.mask and (decode_mask(frame.mask) & OUTSIDE).any():
            masks[name] = out / "masks" / f"{name}.png"
            masks[name].parent.mkdir(parents=True, exist_ok=True)
            masks[name].write_bytes(_black_outside(frame.mask))
        images.append(
            PosedImage(
                name=name,
                width=camera.size[1],
                height=camera.size[0],
                lens=camera.lens,
                world_from_camera=frame.world_from_camera,
                camera=frame.camera,
                time=frame.time - scene.frames[0].time,
            )
        )
    places = [one.rig_from_camera if is_rig else None for one in cameras]
    truth = Reconstruction(
        images=tuple(images),
        cameras=tuple(
            PhysicalCamera(index, one.name, one.lens, place)
            for index, (one, place) in enumerate(zip(cameras, places, strict=True))
        ),
        length_unit=METRE if metric else SCENE,
        frame="OpenCV axes, the world of the source moved near its origin",
        image_folder="images",
    )
    rig = (
        RigCalibration(tuple(cameras), f"the camera {cameras[scene.front_camera].name}") if is_rig and metric else None
    )
    knowledge = Known(
        rig=rig, lenses=lenses, times=times if scene.ordered else {}, masks=masks, pose_unit=truth.length_unit
    )
    notes = _notes(source, label, scene, knowledge, is_rig)
    posed = all(np.isfinite(image.world_from_camera).all() for image in images)
    return SourceImages(tuple(photographs), knowledge, truth if posed else None, tuple(notes), scene.left_out)


def _notes(source: Source, label: str, scene: Scene, knowledge: Known, is_rig: bool) -> list[str]:
    kinds = ", ".join(dict.fromkeys(camera.lens.kind for camera in scene.cameras))
    steps = len({frame.step for frame in scene.frames})
    count = len(scene.frames)
    notes = [f"scene {label} of {source.root}: {count} images of {len(scene.cameras)} cameras at {steps} time steps"]
    notes.append(f"intrinsics of {count} of {count} images ({kinds}) from the data set")
    if knowledge.rig is not None:
        notes.append(f"rig of {len(scene.cameras)} cameras from the data set")
    elif is_rig:
        notes.append("the rig's lengths are of no known unit: it is not used (metres=)")
    if knowledge.times:
        notes.append(f"times of {count} of {count} images from the data set")
    if unused := source.left_out():
        recording, first = unused[0]
        notes.append(f"{len(unused)} images are in no scene, such as {recording}, {first.frame}: {first.reason}")
    if knowledge.masks:
        notes.append(f"masks of {len(knowledge.masks)} of {count} images from the data set")
    return notes


def _is_rig(scene: Scene) -> bool:
    """Whether cameras were taken to move together: several have images of one time step, and places of their own.

    Sources put cameras that are none, or whose place is not known, all at the origin.
    """
    cameras_of_step: dict[int, set[int]] = {}
    for frame in scene.frames:
        cameras_of_step.setdefault(frame.step, set()).add(frame.camera)
    at_origin = sum(np.array_equal(camera.rig_from_camera, np.eye(4)) for camera in scene.cameras)
    return any(len(cameras) > 1 for cameras in cameras_of_step.values()) and at_origin <= 1


def _as_stored(data: bytes) -> tuple[bytes, str]:
    """The bytes of an image file that shows its pixels as they are stored, as its calibration has them; its suffix.

    JPEGs and PNGs without a turn by EXIF stay as they are; all else becomes PNG.
    """
    if exif_orientation(data) == 1 and data.startswith((JPEG_START, _PNG_START)):
        return data, ".jpg" if data.startswith(JPEG_START) else ".png"
    pixels = io.BytesIO()
    Image.fromarray(decode_image(data)).save(pixels, "PNG")
    return pixels.getvalue(), ".png"


def _black_outside(mask: bytes) -> bytes:
    """A mask of a scene as COLMAP's: PNG, 0 where it shows no part of the scene."""
    grey = np.where(decode_mask(mask) & OUTSIDE, 0, 255).astype(np.uint8)
    return cv2.imencode(".png", grey)[1].tobytes()
