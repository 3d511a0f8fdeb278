"""The nouns that travel: Views -> model -> Predictions, compared with Targets, told to people as a Reconstruction.

Legend of array dimensions, used in every annotation of the package:
    b batch · v view (one image) · h w pixels · n tokens · k heads · d width · c channels

Conventions, stated once:
    * Axes are OpenCV's: x right, y down, z forward. Metres, seconds, radians.
    * Pixel (row i, column j) has its centre at u = j + 0.5, v = i + 0.5.
    * A transform `a_from_b` is a 4x4 matrix that takes homogeneous points of frame b to frame a.
    * `reference` is the camera frame of the first image of a sample; `rig` is a frame fixed to the vehicle,
      the camera frame of the rig's front camera where one is known.
    * Arrays that carry points or vectors end in the name of their frame: `points_reference`.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8


@typing.no_type_check
@struct.dataclass
class Distortion:
    """What the lens of each image does beside its 3x3 intrinsics (see `geometry.lenses`)."""

    kind: Int[Array, "b v"]  # its number: 0 pinhole, 1 brown, 2 fisheye (Kannala-Brandt), 3 unified (Mei)
    coefficients: Float[Array, "b v 5"]  # those of the kind in its order, then zeros
    kinds: tuple[int, ...] = struct.field(
        pytree_node=False, default=(0, 1, 2, 3)
    )  # that may occur: others cost nothing


@typing.no_type_check
@struct.dataclass
class RigMetadata:
    """What is told about each image beside its pixels. A field counts only where its `has_` mask is true."""

    frame_index: Int[
        Array, "b v"
    ]  # 0 for the reference image, distinct numbers of 1..pool for the others; never absent
    camera_id: Int[Array, "b v"]  # equal for the images of one physical camera, drawn anew for every sample
    time: Float[Array, "b v"]  # seconds since the reference image
    rig_from_camera: Float[Array, "b v 4 4"]  # rig calibration, metres
    intrinsics: Float[Array, "b v 3 3"]  # pixels of the image as given to the model; belongs to the rig calibration
    has_camera_id: Bool[Array, "b v"]
    has_time: Bool[Array, "b v"]
    has_rig: Bool[Array, "b v"]
    distortion: Distortion | None = None  # with the intrinsics; None: all are pinholes


@typing.no_type_check
@struct.dataclass
class Views:
    """The model's input: the images of one scene, in any order; the first is the reference."""

    images: Float[Array, "b v h w 3"] | UInt8[Array, "b v h w 3"]  # RGB in [0, 1], or bytes of 0..255
    image_mask: Bool[Array, "b v h w"]  # false on padding
    metadata: RigMetadata

    @classmethod
    def of_images(cls, images: Float[np.ndarray, "b v h w 3"] | UInt8[np.ndarray, "b v h w 3"]) -> "Views":
        """Images that fill the model's input and of whose rig nothing is known; the first of a sample is the reference.

        Fill `metadata` with what is known: a field counts where its `has_` mask is true.
        """
        samples, views = images.shape[:2]
        each, absent = (samples, views), np.zeros((samples, views), bool)
        metadata = RigMetadata(
            frame_index=np.tile(np.arange(views, dtype=np.int32), (samples, 1)),
            camera_id=np.zeros(each, np.int32),
            time=np.zeros(each, np.float32),
            rig_from_camera=np.tile(np.eye(4, dtype=np.float32), (*each, 1, 1)),
            intrinsics=np.tile(np.eye(3, dtype=np.float32), (*each, 1, 1)),
            has_camera_id=absent,
            has_time=absent,
            has_rig=absent,
        )
        return cls(images, np.ones(images.shape[:4], bool), metadata)


@typing.no_type_check
@struct.dataclass
class Targets:
    """Ground truth. Ray maps and point maps are computed from it inside the step, never stored."""

    depth: Float[Array, "b v h w"]  # metres along the pixel's ray; anything (NaN too) where not valid
    valid: Bool[Array, "b v h w"]  # pixels with known depth
    reference_from_camera: Float[Array, "b v 4 4"]
    rig_from_camera: Float[Array, "b v 4 4"]
    intrinsics: Float[Array, "b v 3 3"]  # pixels
    camera_index: Int[Array, "b v"]  # number of the physical camera in its rig
    time: Float[Array, "b v"]  # seconds since the reference image
    distortion: Distortion | None = None  # None: all are pinholes


@typing.no_type_check
@struct.dataclass
class Batch:
    """What the pipeline yields and the step consumes; numpy on the host, jax on the device."""

    views: Views
    targets: Targets


@typing.no_type_check
@struct.dataclass
class Predictions:
    """The model's output, float32. Lengths are in units of the sample's mean depth (z-bar).

    Points lie on a grid of `points_per_patch` squared per patch, at the pixels of `geometry.camera.stride_pixels`; rays
    on a grid of `rays_per_patch` squared per patch, through the centres of equal cells of the image.
    """

    points: Float[Array, "b v hp wp 3"]  # reference frame
    confidence: Float[Array, "b v hp wp"]  # at least 1
    pose_directions: Float[Array, "b v hr wr 3"]  # reference frame; not normalised
    pose_center: Float[Array, "b v 3"]  # camera centre, reference frame
    rig_directions: Float[Array, "b v hr wr 3"]  # rig frame; not normalised
    rig_center: Float[Array, "b v 3"]  # camera centre, rig frame


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a model of any family says of the images of one pass; numpy on the host.

    The world is one of the model's choice, the same for all images; lengths are in a unit of the model's own, the same
    in all fields. Grids of points lie at the pixels of `geometry.camera.stride_pixels`.
    """

    world_from_camera: Float[np.ndarray, "v 4 4"]
    lenses: tuple["LensLike", ...]  # of the images as the model saw them: those it was told, else as it says
    points: Float[np.ndarray, "v hp wp 3"]  # world
    confidence: Float[np.ndarray, "v hp wp"]  # at least 1; larger is surer
    error: Float[np.ndarray, "v hp wp"] | None = None  # expected distance of a point from the truth; None: no law known
    covariance: Float[np.ndarray, "v 6 6"] | None = None  # of the tangent (v, w) in world_from_camera exp(v, w)
    rig_from_camera: Float[np.ndarray, "v 4 4"] | None = None  # of models that find the rig out

    def of(self, rows: Sequence[int]) -> "Estimate":
        """Of some of its images."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        chosen = {name: value[rows] for name, value in fields.items() if isinstance(value, np.ndarray)}
        return dataclasses.replace(self, lenses=tuple(self.lenses[row] for row in rows), **chosen)


@typing.runtime_checkable
class LensLike(typing.Protocol):
    """One camera's lens in pixels of the original image, float64, as the lenses of `geometry.camera` are."""

    intrinsics: Float[np.ndarray, "3 3"]

    def rays(self, pixels: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 3"]:
        """Unit directions_camera."""
        ...

    def project(self, points_camera: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 2"]:
        """Pixels."""
        ...

    def to_numbers(self) -> dict[str, str | float]:
        """Kind, fx, fy, cx, cy and coefficients by name, for files."""
        ...


@dataclasses.dataclass(frozen=True)
class Crop:
    """What a network saw of an image: a box of its pixels, resized. The box leaves the image where it was padded.

    u_seen = (u - left) * seen_width / width, likewise v with top and height: centres at +0.5 on both sides.
    """

    left: float
    top: float
    width: float
    height: float
    seen_width: int
    seen_height: int


CAMERA_SOURCES = ("given", "discovered", "fitted")  # by the user; by clustering images; by refining
SCALE_SOURCES = ("given", "given poses", "rig baselines", "none")  # none: lengths are in units of the scene, not metres
# Of a number: held as the user gave it; as a model said it; fitted to what models said of several images.
NUMBER_SOURCES = ("given", "predicted", "fitted")


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PhysicalCamera:
    """One camera of the rig, which took any number of the images."""

    id: int
    name: str
    lens: LensLike | None = None  # None: not known, and its images have lenses of their own
    rig_from_camera: Float[np.ndarray, "4 4"] | None = None  # in the reconstruction's length unit
    source: str = "given"  # one of CAMERA_SOURCES
    certainty: float | None = None  # 0..1 that its images, and no others, are of one camera; None where not stated


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PosedImage:
    """One source image and where it was taken from."""

    name: str  # its file, relative to the reconstruction's image folder, forward slashes; unique
    width: int  # pixels of the original image, upright
    height: int
    lens: LensLike  # of the original image
    world_from_camera: Float[np.ndarray, "4 4"]  # in the reconstruction's length unit
    camera: int | None = None  # id of its physical camera; None where not known
    time: float | None = None  # seconds since the first image
    covariance: Float[np.ndarray, "6 6"] | None = None  # of the tangent (v, w) in world_from_camera exp(v, w)
    crop: Crop | None = None  # None: no network saw it, or all of it at its own size
    lens_source: str | None = None  # one of NUMBER_SOURCES; None where not stated
    pose_source: str | None = None  # likewise, of world_from_camera


CONFIDENT = 0.7  # share of the points, the most confident ones, that files and pictures show


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PointMaps:
    """Points of every image, on the grid that the model predicts: v images in the order of the reconstruction."""

    pixels: Float[np.ndarray, "v hp wp 2"]  # (u, v) of each point in its original image; beyond its sides for padding
    points_world: Float[np.ndarray, "v hp wp 3"]  # length unit
    depth: Float[np.ndarray, "v hp wp"]  # length unit, along the own camera's z axis; of a wide lens along the ray
    confidence: Float[np.ndarray, "v hp wp"]  # at least 1; the model's own, larger is surer
    on_image: Bool[np.ndarray, "v hp wp"]  # false on padding and where masked; there the other fields mean nothing
    colors: UInt8[np.ndarray, "v hp wp 3"]  # RGB
    error: Float[np.ndarray, "v hp wp"] | None = None  # length unit: expected distance from the truth; None: not known

    def confident(self, share: float = CONFIDENT) -> Bool[np.ndarray, "v hp wp"]:
        """The most confident points on images, as large a share of them."""
        if not self.on_image.any():
            return self.on_image
        return self.on_image & (self.confidence >= np.quantile(self.confidence[self.on_image], 1.0 - share))


@dataclasses.dataclass(frozen=True)
class Scale:
    """Lengths of a reconstruction over those predicted, and where that is from: one of SCALE_SOURCES."""

    factor: float
    source: str


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Cameras and points of a set of images, on the host in numpy: what a model, or a solver, found out.

    The world is any frame with OpenCV's axes; `frame` says which. Rules that need geometry (rigid transforms, usable
    lenses, safe names) are those of `formats.cameras_json`, which writes the cameras.
    """

    images: tuple[PosedImage, ...]
    cameras: tuple[PhysicalCamera, ...] = ()
    length_unit: str = "metre"  # or "scene": no metric scale was known
    scale: Scale | None = None  # None: not stated
    points: PointMaps | None = None  # None: cameras alone
    frame: str = "OpenCV axes, world = first image's camera"
    image_folder: str | None = None  # absolute, or relative to the file that names it; None: names are of no files

    def __post_init__(self):
        if self.points is not None and len(self.points.depth) != len(self.images):
            raise ValueError(f"points of {len(self.points.depth)} images for {len(self.images)}; give one map to each")

    @property
    def world_from_camera(self) -> Float[np.ndarray, "v 4 4"]:
        """Of all images, float64, in the length unit."""
        return np.stack([image.world_from_camera for image in self.images]).astype(np.float64)

    @property
    def intrinsics(self) -> Float[np.ndarray, "v 3 3"]:
        """Of all images, float64, pixels of the originals."""
        return np.stack([image.lens.intrinsics for image in self.images]).astype(np.float64)

    def camera_of(self, image: PosedImage) -> PhysicalCamera | None:
        """The physical camera that took it, where that is known."""
        return next((camera for camera in self.cameras if camera.id == image.camera), None)
