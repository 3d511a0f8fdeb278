"""The nouns that travel: Views -> model -> Predictions, compared with Targets.

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

import typing

from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8


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


@typing.no_type_check
@struct.dataclass
class Views:
    """The model's input: the images of one scene, in any order; the first is the reference."""

    images: Float[Array, "b v h w 3"] | UInt8[Array, "b v h w 3"]  # RGB in [0, 1], or bytes of 0..255
    image_mask: Bool[Array, "b v h w"]  # false on padding
    metadata: RigMetadata


@typing.no_type_check
@struct.dataclass
class Targets:
    """Ground truth. Ray maps and point maps are computed from it inside the step, never stored."""

    depth: Float[Array, "b v h w"]  # metres along the camera's own z axis; anything (NaN too) where not valid
    valid: Bool[Array, "b v h w"]  # pixels with known depth
    reference_from_camera: Float[Array, "b v 4 4"]
    rig_from_camera: Float[Array, "b v 4 4"]
    intrinsics: Float[Array, "b v 3 3"]  # pixels
    camera_index: Int[Array, "b v"]  # number of the physical camera in its rig
    time: Float[Array, "b v"]  # seconds since the reference image


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
