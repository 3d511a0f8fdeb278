"""Scene: the one noun that every data source yields, the records keep and the sampler draws from."""

import contextlib
import dataclasses
import typing
from collections.abc import Iterator, Sequence

import numpy as np

import rig3r_jax  # by which the annotation below is read

if typing.TYPE_CHECKING:
    import rig3r_jax.geometry.camera


class BadRecord(ValueError):
    """Input data that cannot be used. The message names the file or record, the value, the rule and the remedy."""

    kind: str = ""  # what of a frame it is about, where it is about one: see LeftOut


@dataclasses.dataclass(frozen=True)
class RigCamera:
    """One physical camera of the rig; its calibration holds for the whole scene."""

    name: str
    # Of numpy arrays in float64, pixels of the stored image. Its module imports JAX, which whoever reads a config with
    # its sources does without: typing.get_type_hints reads the string once that module is there, as it is with a lens.
    lens: "rig3r_jax.geometry.camera.Lens"
    size: tuple[int, int]  # height, width of the stored image
    rig_from_camera: np.ndarray  # (4, 4) float64, metres; identity for the front camera
    # Seconds from the first exposed row or column to the last, negative where exposure goes up or left; 0: all at once,
    # or not known. Poses are of the middle of the exposure; nothing is corrected for it.
    readout: float = 0.0
    readout_axis: str = "rows"  # or "columns"


@dataclasses.dataclass(frozen=True)
class DenseDepth:
    """A depth per pixel: metres along its ray, 0 where unknown (sky). `geometry.depth.along_rays` makes it of depths
    along the camera's axis."""

    values: np.ndarray  # (h, w) float16 or float32

    def known(self, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (n, 2) whose depth is finite and positive, their centres at +0.5, and their depths (n,) in metres,
        all in float64; at most `most` of them, spread evenly."""
        rows, columns = np.nonzero(np.isfinite(self.values) & (self.values > 0))
        chosen = _spread(len(rows), most)
        rows, columns = rows[chosen], columns[chosen]
        return np.stack([columns, rows], axis=-1) + 0.5, self.values[rows, columns].astype(np.float64)


@dataclasses.dataclass(frozen=True)
class SparseDepth:
    """Depths of single points, as LiDAR gives them: sub-pixel positions (u, v) with pixel centres at +0.5."""

    pixels: np.ndarray  # (n, 2) float32
    depths: np.ndarray  # (n,) float32, metres from the camera's centre
    moving: np.ndarray | None = None  # (n,) bool, points of what moves; None: not known

    def known(self, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `DenseDepth.known`."""
        numbers = np.flatnonzero(np.isfinite(self.depths) & (self.depths > 0))
        numbers = numbers[_spread(len(numbers), most)]
        return self.pixels[numbers].astype(np.float64), self.depths[numbers].astype(np.float64)


def _spread(count: int, most: int | None) -> np.ndarray:
    """At most `most` of the numbers 0..count-1, evenly."""
    return np.linspace(0, count - 1, min(count, count if most is None else most)).round().astype(int)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One image taken by one camera at one time."""

    camera: int  # index into Scene.cameras
    time: float  # seconds, the source's own clock
    step: int  # index of the rig's time step (images of one step were taken together)
    world_from_camera: np.ndarray  # (4, 4) float64, metres, re-based near the origin; or UNKNOWN_POSE
    image: bytes  # encoded, the source's own JPEG, PNG or what else `image_bytes.decode_image` takes
    depth: bytes  # encode_depth
    # encode_mask; b"": all pixels show the scene, and nothing is known to move. (A factory: records read it late.)
    mask: bytes = dataclasses.field(default_factory=bytes)


UNKNOWN_POSE = np.full((4, 4), np.nan)  # of frames without truth: they are reconstructed, never records
UNMATCHED = "unmatched"  # the kind of what was left out though nothing is wrong with it


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """An image that a source lists and no scene holds, and why."""

    frame: str  # its file, or its camera and step
    kind: str  # what about it: image, depth, pose, time or row; UNMATCHED where no depth or pose is near in time
    reason: str  # names file, value, rule and remedy


@contextlib.contextmanager
def about(kind: str) -> Iterator[None]:
    """A BadRecord of the block is about this kind, unless it says another."""
    try:
        yield
    except BadRecord as error:
        error.kind = error.kind or kind
        raise


@contextlib.contextmanager
def leaving_out(left_out: list[LeftOut], frame: str) -> Iterator[None]:
    """Ends the block at a BadRecord, which becomes an entry of `left_out`: a bad frame costs that frame."""
    try:
        yield
    except BadRecord as error:
        left_out.append(LeftOut(frame, error.kind, str(error)))


def no_frame_left(scene: str, left_out: Sequence[LeftOut]) -> BadRecord:
    """What to raise for a scene that all its frames were left out of."""
    return BadRecord(f"scene {scene}: none of its {len(left_out)} frames can be used; the first: {left_out[0].reason}")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A rig moving through one place."""

    name: str
    cameras: tuple[RigCamera, ...]
    front_camera: int  # index into cameras
    frames: tuple[Frame, ...]  # ordered by (step, camera)
    left_out: tuple[LeftOut, ...] = ()  # frames that its source could not use; for the build, records keep none
    # (4, 4) float64: the scene's world, re-based near the origin, in the one that the data set's files are written in.
    source_from_world: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4))
    # (4, 4) float64: the rig in the frame whose poses the files hold, where that is a vehicle's or an IMU's; for those
    # who check what was read (see `inspection`), records keep none.
    body_from_rig: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4))
    ordered: bool = True  # steps follow one another in time; False: photographs of one camera in no order
    # Of a scene without order `covisibility.covisibility`, (n, n) uint8 of its frames, as records hold it; None: not
    # computed, or the scene has an order.
    covisible: np.ndarray | None = None
    # Whether a calibration states where the cameras sit. False: that was computed from their poses, or they are no rig
    # and all at the front camera's place; for the build, records keep none.
    rig_is_stated: bool = True

    @property
    def pinholes_only(self) -> bool:
        """Whether no camera has another lens."""
        return all(camera.lens.kind == "pinhole" for camera in self.cameras)


@typing.runtime_checkable
class SceneSource(typing.Protocol):
    """Random access to scenes, such as `data.record_source.RecordSource`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene: ...
