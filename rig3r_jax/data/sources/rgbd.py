"""What recordings of one RGB-D camera share: scenes of a camera that is its own rig, and a check that depth images are
read in the right unit."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

import rig3r_jax  # by which an annotation below is read; its schema imports JAX
from rig3r_jax.data.depth_files import read_whole_numbers
from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import (
    BadRecord,
    DenseDepth,
    Frame,
    LeftOut,
    RigCamera,
    Scene,
    about,
    leaving_out,
    no_frame_left,
)
from rig3r_jax.data.sources.cut_by_time import CutByTime
from rig3r_jax.data.sources.registration import Registration

CAMERA = "camera"

Cameras = Callable[[tuple[int, int]], tuple["rig3r_jax.schema.LensLike", Registration | None]]

_CHECKED_IMAGES = 5  # depth images of a recording whose median is looked at
_COMMON_SCALES = {1000.0: "millimetres", 5000.0: "as in TUM's own files", 10000.0: "tenths of millimetres"}


@dataclasses.dataclass(frozen=True)
class DepthCode:
    """What the whole numbers of a 16-bit depth image mean."""

    units_per_metre: float
    unknown: tuple[int, ...]  # values that state no depth


@dataclasses.dataclass(frozen=True)
class RgbdFrame:
    """One image with its depth image and place."""

    time: float  # seconds
    image: Path
    depth: Path | None  # of a recording without depth None
    world_from_camera: np.ndarray  # (4, 4) float64, metres


@dataclasses.dataclass(frozen=True)
class RgbdSource(CutByTime):
    """Options of recordings of one camera with depth."""

    depth_scale: float = 1000.0  # what depth images hold for 1 metre
    plausible_depth: tuple[float, float] = (0.5, 20.0)  # metres; a recording with another median depth is bad

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        yield from depth_problems(self.depth_scale, self.plausible_depth)

    def check_depth(self, depths: Sequence[Path], code: DepthCode) -> None:
        """See `check_depth_unit`."""
        check_depth_unit(depths, code, self.plausible_depth)


def depth_problems(depth_scale: float, plausible_depth: tuple[float, float]) -> Iterator[str]:
    """What cannot hold of these two options."""
    if not 0 < depth_scale < math.inf:
        yield f"depth_scale={depth_scale} must be a positive number of units per metre"
    nearest, farthest = plausible_depth
    if not 0 <= nearest < farthest:
        yield f"plausible_depth={plausible_depth!r} must be two ascending numbers of metres, not negative"


def check_depth_unit(depths: Sequence[Path], code: DepthCode, plausible_depth: tuple[float, float]) -> None:
    """BadRecord where the median depth of a recording's images is of another unit than `depth_scale` says.

    A few images that are spread over the recording are read; one that does not decode is left to its scene.
    """
    chosen = np.linspace(0, len(depths) - 1, min(len(depths), _CHECKED_IMAGES)).astype(int)
    medians = {path: _median_depth(path, code) for path in (depths[index] for index in chosen)}
    medians = {path: median for path, median in medians.items() if median}
    nearest, farthest = plausible_depth
    median = float(np.median(list(medians.values()))) if medians else nearest
    if nearest <= median <= farthest:
        return
    metres_of = {scale: median * code.units_per_metre / scale for scale in _COMMON_SCALES}
    fitting = [
        f"{scale:g} ({_COMMON_SCALES[scale]}: {metres:.3g} m)"
        for scale, metres in metres_of.items()
        if nearest <= metres <= farthest
    ]
    raise BadRecord(
        f"{next(iter(medians))}: median depth of {len(medians)} images from here on is {median:.3g} m with "
        f"depth_scale={code.units_per_metre:g}, must be {nearest:g} to {farthest:g} m; set depth_scale="
        f"{' or '.join(fitting) or 'what the images hold for 1 metre'}, or widen plausible_depth if it is right"
    )


def single_camera_scene(
    name: str,
    frames: Sequence[RgbdFrame],
    cameras: Cameras,
    code: DepthCode,
    left_out: Sequence[LeftOut] = (),
) -> Scene:
    """The scene of a camera that is a rig of its own.

    A frame whose image or depth does not read is left out and added to those of `left_out`, which the caller could not
    use. BadRecord, naming the file, where none is left.

    Args:
        name: of the scene.
        frames: in the order of time.
        cameras: of the (height, width) of the images: the lens of colour, and how depth comes into its camera where
            that has one of its own.
        code: of the depth images.
        left_out: frames that the caller could not use.
    """
    from rig3r_jax.geometry.depth import along_rays  # imports JAX: not where options are read

    left_out, images = list(left_out), {}
    for step, frame in enumerate(frames):
        with leaving_out(left_out, frame.image.name), about("image"):
            images[step] = read_image(frame.image)
    if not images:
        raise no_frame_left(name, left_out)
    ((size, _),) = collections.Counter(size for _, size in images.values()).most_common(1)
    lens, registration = cameras(size)
    loaded: list[Frame] = []
    for step, (image, image_size) in images.items():
        frame = frames[step]
        with leaving_out(left_out, frame.image.name):
            with about("image"):
                if image_size != size:
                    raise BadRecord(f"{frame.image}: is {image_size}, most images of the scene {size} (height, width)")
            with about("depth"):
                depth = NO_POINTS
                if frame.depth is not None:
                    depth = _dense(along_rays(read_depth(frame.depth, size, code, registration), lens))
            loaded.append(
                Frame(
                    camera=0,
                    time=frame.time,
                    step=step,
                    world_from_camera=frame.world_from_camera,
                    image=image,
                    depth=encode_depth(depth),
                )
            )
    if not loaded:
        raise no_frame_left(name, left_out)
    camera = RigCamera(CAMERA, lens, size, np.eye(4))
    return Scene(name, cameras=(camera,), front_camera=0, frames=tuple(loaded), left_out=tuple(left_out))


def read_depth(
    path: Path, size: tuple[int, int], code: DepthCode, registration: Registration | None = None
) -> Float[np.ndarray, "h w"]:
    """Depth of a 16-bit PNG of `size` (height, width) along the camera's axis, in metres, 0 where unknown, registered
    where that is given.

    BadRecord, naming the file, for what is no such image.
    """
    metres = _decode_depth(path, code)
    if metres.shape != size:
        raise BadRecord(f"{path}: is {metres.shape}, its image is {size} (height, width); restore the file")
    if registration is None:
        return metres
    registered = registration.register(metres)
    if metres.any() and not registered.any():
        raise BadRecord(
            f"{path}: none of its {np.count_nonzero(metres)} depths falls into the colour image; correct intrinsics, "
            "depth_intrinsics (pixels) or depth_origin (metres), or set register_depth=False"
        )
    return registered


def _dense(metres: Float[np.ndarray, "h w"]) -> DenseDepth:
    """float16 rounds by 1 part in 2000 at most, a tenth of the noise of such cameras, and halves the records."""
    return DenseDepth(metres.astype(np.float16))


def _median_depth(path: Path, code: DepthCode) -> float:
    """In metres, of the pixels where it is known; 0 where none is, or the image does not decode."""
    try:
        metres = _decode_depth(path, code)
    except BadRecord:
        return 0.0
    return float(np.median(metres[metres > 0])) if (metres > 0).any() else 0.0


def _decode_depth(path: Path, code: DepthCode) -> Float[np.ndarray, "h w"]:
    values = read_whole_numbers(path)
    metres = values / code.units_per_metre
    metres[np.isin(values, code.unknown)] = 0
    return metres
