"""What recordings of one RGB-D camera share: splits by blocks of frames, scenes of a camera that is its own rig."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16
from PIL import Image

from rig3r_jax.data.augment import encoded_size
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, RigCamera, Scene, encode_depth
from rig3r_jax.geometry.camera import Pinhole

SPLITS = ("train", "validation", "test")
CAMERA = "camera"


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
    depth: Path
    world_from_camera: np.ndarray  # (4, 4) float64, metres


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a recording becomes splits and scenes. Every frame is in one scene of one split at most."""

    fractions: Sequence[float]  # of the frames for train, validation and test, in this order of time
    gap: int  # frames left out where one split ends and the next begins
    stride: int  # every n-th frame is taken
    window: int  # frames per scene at most
    min_frames: int  # a recording's part of a split with fewer frames is a bad scene

    def __post_init__(self) -> None:
        fractions = self.fractions
        good = isinstance(fractions, Sequence) and len(fractions) == 3
        good = good and all(isinstance(share, int | float) and share >= 0 for share in fractions)
        if not good or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"fractions={fractions!r} must be three shares, of {', '.join(SPLITS)}, that sum to 1")
        lowest = {"gap": 0, "stride": 1, "window": 1, "min_frames": 1}
        for key, low in lowest.items():
            value = getattr(self, key)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{key}={value!r} must be a whole number of frames, at least {low}")
        if 2 * self.min_frames > self.window + 1:  # a block of window + 1 frames becomes two scenes
            raise ValueError(
                f"min_frames={self.min_frames} with window={self.window}: scenes may get half of the window; set "
                f"min_frames of at most {(self.window + 1) // 2}, or window of at least {2 * self.min_frames - 1}"
            )

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a share."""
        return tuple(split for split, fraction in zip(SPLITS, self.fractions, strict=True) if fraction > 0)

    def block(self, count: int, split: str) -> range:
        """The frames, of `count`, that belong to a split: one contiguous block."""
        index = SPLITS.index(split)
        edges = [round(sum(self.fractions[:i]) * count) for i in range(4)]
        return range(min(edges[index] + (self.gap if edges[index] else 0), edges[index + 1]), edges[index + 1])

    def scenes(self, block: range) -> list[range]:
        """The block in pieces of nearly equal length, none longer than `window`."""
        pieces = -(-len(block) // self.window)
        edges = [len(block) * i // max(pieces, 1) for i in range(pieces + 1)]
        return [block[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]


def single_camera_scene(
    name: str, frames: Sequence[RgbdFrame], intrinsics: Float[np.ndarray, "3 3"], code: DepthCode
) -> Scene:
    """The scene of a camera that is a rig of its own. BadRecord, naming the file, where one does not read."""
    loaded, size = [], None
    for step, frame in enumerate(frames):
        image = read_bytes(frame.image)
        try:
            found = encoded_size(image)
        except BadRecord as error:
            raise BadRecord(f"{frame.image}: {error}") from error
        size = size or found
        if found != size:
            raise BadRecord(f"{frame.image}: is {found}, the first image of the scene is {size} (height, width)")
        depth = read_depth(frame.depth, size, code)
        loaded.append(
            Frame(
                camera=0,
                time=frame.time,
                step=step,
                world_from_camera=frame.world_from_camera,
                image=image,
                depth=encode_depth(DenseDepth(depth)),
            )
        )
    camera = RigCamera(CAMERA, Pinhole(intrinsics), size, np.eye(4))
    return Scene(name=name, cameras=(camera,), front_camera=0, frames=tuple(loaded))


def read_depth(path: Path, size: tuple[int, int], code: DepthCode) -> Float16[np.ndarray, "h w"]:
    """Depth of a 16-bit PNG of `size` (height, width) in metres, 0 where unknown.

    float16 rounds by 1 part in 2000 at most, a tenth of the noise of such cameras, and halves the records. BadRecord,
    naming the file, for what is no such image.
    """
    data = read_bytes(path)
    try:
        found = encoded_size(data)
        with Image.open(io.BytesIO(data)) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadRecord(f"{path}: depth image of {len(data)} bytes does not decode; restore the file") from error
    if found != size:
        raise BadRecord(f"{path}: is {found}, its image is {size} (height, width); restore the file")
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        raise BadRecord(f"{path}: is {values.dtype} of shape {values.shape}; a depth image has one 16-bit channel")
    metres = values / code.units_per_metre
    metres[np.isin(values, code.unknown)] = 0
    return metres.astype(np.float16)


def read_bytes(path: Path) -> bytes:
    """A file's content; BadRecord where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error
