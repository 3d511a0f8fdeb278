"""What networks are given and what their numbers mean: from the images of a pass to arrays, from arrays to an Estimate.

No code of the networks is here: an exported network is read in the same way. Readings hold plain numbers and texts, so
that they go into JSON and come back (`to_json`, `from_json`).
"""

import dataclasses
import typing
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.depth_estimate import estimate_of_depth
from rig3r_jax.geometry.estimate import estimate_of
from rig3r_jax.geometry.lenses import MOST_COEFFICIENTS
from rig3r_jax.losses.pose_nll import NllOptions, covariance
from rig3r_jax.schema import Distortion, Estimate, Predictions, RigMetadata, Views

Arrays = dict[str, np.ndarray | Array | jax.ShapeDtypeStruct]  # by name, without a batch axis
SPREAD = "spread"  # the output of a network with a pose uncertainty head: its numbers (v c)


@dataclasses.dataclass(frozen=True)
class Spread:
    """How the numbers of a pose uncertainty head become covariances, in the length unit of its network.

    The head has learnt what errors were in metres, on windows of which each had a length of its own to the network's
    unit. The network does not see metres; so their middle is what turns the head's metres into its unit.
    """

    nll: NllOptions
    metres_per_unit: float  # the median over the windows that the head was trained on

    def covariance(self, numbers: Float[np.ndarray, "v c"]) -> Float[np.ndarray, "v 6 6"]:
        """Of the tangents (v, w) in world_from_camera exp(v, w), the world being the first camera, which has none.

        The head's are those of Log(inverse(true) predicted), of which the sign alone is another.
        """
        with jax.enable_x64(True):
            covariances = np.array(covariance(jnp.asarray(numbers, jnp.float64), self.nll))
        to_unit = np.repeat([1.0 / self.metres_per_unit, 1.0], 3)
        covariances *= to_unit[:, None] * to_unit
        covariances[0] = 0.0
        return covariances


@dataclasses.dataclass(frozen=True)
class Rig3RReading:
    """Of `models.rig3r.Rig3R`: inputs are the leaves of Views, outputs those of Predictions."""

    side: int  # pixels of the square that it sees
    alpha: float | None  # of its loss: see `geometry.estimate.estimate_of`
    metadata: str = "all"  # what it is told of the images: a key of evaluation.rows.SETTINGS
    spread: Spread | None = None

    takes_rig: typing.ClassVar[bool] = True
    fill: typing.ClassVar[int] = 0

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The square that it was trained on."""
        return self.side, self.side

    def inputs(self, views: Views) -> Arrays:
        """Arrays of one sample. Lenses are told as kinds and coefficients, pinholes too: so all passes are alike."""
        metadata, images = views.metadata, np.asarray(views.images)
        distortion = metadata.distortion
        fields = {field.name: getattr(metadata, field.name) for field in dataclasses.fields(metadata)}
        del fields["distortion"]
        groups = SETTINGS[self.metadata]
        for name in ("camera_id", "time", "rig"):
            if name not in groups:
                fields[f"has_{name}"] = np.zeros(len(images), bool)
        kind, coefficients = np.zeros(len(images), np.int32), np.zeros((len(images), MOST_COEFFICIENTS), np.float32)
        if distortion is not None:
            kind, coefficients = distortion.kind, distortion.coefficients
        arrays = fields | {"lens_kind": kind, "lens_coefficients": coefficients}
        arrays |= {"images": images, "image_mask": views.image_mask}
        return {name: np.asarray(values) for name, values in arrays.items()}

    def shapes(self, views: int, size: tuple[int, int]) -> Arrays:
        """Of `inputs`."""
        sample = jax.tree.map(lambda leaf: leaf[0], Views.of_images(np.empty((1, views, *size, 3), np.uint8)))
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in self.inputs(sample).items()}

    def estimate(
        self, outputs: Arrays, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool], name: str
    ) -> Estimate:
        """See `protocol.Model`."""
        predictions = Predictions(**{field.name: outputs[field.name] for field in dataclasses.fields(Predictions)})
        estimate = estimate_of(predictions, np.asarray(views.image_mask), lenses, wide, self.alpha)
        if self.spread is None:
            return estimate
        return dataclasses.replace(_from_first(estimate), covariance=self.spread.covariance(outputs[SPREAD]))


def views_of_arrays(arrays: Arrays) -> Views:
    """The sample of `Rig3RReading.inputs`, with a batch axis, as the network takes it."""
    arrays = {name: values[None] for name, values in arrays.items()}
    images, mask = arrays.pop("images"), arrays.pop("image_mask")
    distortion = Distortion(arrays.pop("lens_kind"), arrays.pop("lens_coefficients"))
    return Views(images, mask, RigMetadata(**arrays, distortion=distortion))


@dataclasses.dataclass(frozen=True)
class VggtReading:
    """Of `models.vggt.VGGT`: images in, the encoding of the last refinement, depth and its confidence out."""

    side: int  # pixels of the longest side of what it sees
    patch: int
    square: bool = False  # sees squares whatever the images
    spread: Spread | None = None

    takes_rig: typing.ClassVar[bool] = False
    fill: typing.ClassVar[int] = 255

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Of the images' middle aspect, in whole patches: images of others are padded in white, as the authors do."""
        if self.square:
            return self.side, self.side
        aspect = np.exp(np.median([np.log(height / width) for height, width in sizes]))
        other = max(round(self.side * min(aspect, 1.0 / aspect) / self.patch), 1) * self.patch
        return (self.side, other) if aspect > 1.0 else (other, self.side)

    def inputs(self, views: Views) -> Arrays:
        """The images of one sample."""
        return {"images": np.asarray(views.images)}

    def shapes(self, views: int, size: tuple[int, int]) -> Arrays:
        """Of `inputs`."""
        return {"images": jax.ShapeDtypeStruct((views, *size, 3), np.uint8)}

    def estimate(
        self, outputs: Arrays, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool], name: str
    ) -> Estimate:
        """See `protocol.Model`. ValueError for fisheyes of which no lens is given."""
        if any(is_wide and lens is None for is_wide, lens in zip(wide, lenses, strict=True)):
            raise ValueError(
                f"{name} predicts pinholes, and no lens of these fisheyes is known; give their calibration, or a Rig3R"
            )
        estimate = estimate_of_depth(outputs["encoding"], outputs["depth"], outputs["depth_confidence"], lenses)
        if self.spread is None:
            return estimate
        return dataclasses.replace(estimate, covariance=self.spread.covariance(outputs[SPREAD]))


Reading = Rig3RReading | VggtReading
READINGS: dict[str, type[Reading]] = {"rig3r": Rig3RReading, "vggt": VggtReading}


def to_json(reading: Reading) -> dict:
    """For `from_json`."""
    (family,) = (name for name, kind in READINGS.items() if type(reading) is kind)
    return {"family": family, **dataclasses.asdict(reading)}


def from_json(content: dict) -> Reading:
    """The reading of `to_json`; ValueError, TypeError or KeyError for what is none."""
    fields = dict(content)
    reading, spread = READINGS[fields.pop("family")], fields.pop("spread")
    return reading(**fields, spread=spread and spread_from_json(spread))


def spread_from_json(content: dict) -> Spread:
    """Of `dataclasses.asdict`, through JSON, whose lists are tuples."""
    nll = {key: tuple(value) if isinstance(value, list) else value for key, value in content["nll"].items()}
    return Spread(NllOptions(**nll), float(content["metres_per_unit"]))


def _from_first(estimate: Estimate) -> Estimate:
    """The same in the frame of the first camera, against which a head's errors are: a ray map's is near it, not it."""
    first_from_world = rigid.invert(estimate.world_from_camera[0])
    poses = first_from_world @ estimate.world_from_camera
    poses[0] = np.eye(4)
    return dataclasses.replace(estimate, world_from_camera=poses, points=rigid.apply(first_from_world, estimate.points))
