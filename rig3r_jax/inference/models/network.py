"""A network of any family behind the face of `protocol.Model`."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.inference.models.program import Program
from rig3r_jax.inference.models.readings import Arrays, Reading
from rig3r_jax.inference.pass_store import tree_digest
from rig3r_jax.schema import Estimate, Views

Function = Callable[[PyTree, Arrays], Arrays]  # parameters, and inputs of one sample without a batch axis, to outputs
DESCRIBED_AT_ONCE = 8  # images


@dataclasses.dataclass(frozen=True)
class About:
    """What people are told of a network."""

    name: str
    usual_views: int
    licence: str | None = None
    notes: tuple[str, ...] = ()
    most_views: int | None = None


class NetworkModel:
    """See `protocol.Model`."""

    def __init__(
        self,
        about: About,
        reading: Reading,
        function: Function,
        params: PyTree,
        encode: Callable[[PyTree, UInt8[Array, "n h w 3"]], Float[Array, "n t d"]] | None = None,
    ):
        """`encode`: parameters and images to their tokens, by the image encoder alone."""
        self.about, self.reading = about, reading
        self.program = Program(function, params)
        self._describe = None if encode is None else Program(_descriptors(encode), self.program.params)

    name = property(lambda self: self.about.name)
    licence = property(lambda self: self.about.licence)
    notes = property(lambda self: self.about.notes)
    usual_views = property(lambda self: self.about.usual_views)
    most_views = property(lambda self: self.about.most_views)
    takes_rig = property(lambda self: self.reading.takes_rig)
    fill = property(lambda self: self.reading.fill)

    @functools.cached_property
    def digest(self) -> str:
        """See `Model`."""
        return tree_digest(self.program.params, f"{self.name} {self.reading!r} {jax.default_backend()}")

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """See `Model`."""
        return self.reading.input_size(sizes)

    def peak_bytes(self, views: int, size: tuple[int, int]) -> int:
        """See `Model`."""
        return self.program.peak_bytes(self.reading.shapes(views, size))

    def estimate(self, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool]) -> Estimate:
        """See `Model`."""
        return self.reading.estimate(self.outputs(views), views, lenses, wide, self.name)

    def outputs(self, views: Views) -> Arrays:
        """What the network says of one sample, by name; numpy, float32, neither with a batch axis."""
        return self.program(self.reading.inputs(views))

    @property
    def describe(self) -> Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]] | None:
        """See `Model`."""
        return None if self._describe is None else self._descriptors_of

    def _descriptors_of(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """The last group is filled up with its last image, so that one program does them all."""
        size = min(DESCRIBED_AT_ONCE, len(images))
        rows = np.minimum(np.arange(-(-len(images) // size) * size), len(images) - 1).reshape(-1, size)
        return np.concatenate([self._describe(images[group]) for group in rows])[: len(images)]


def _descriptors(encode: Callable) -> Callable:
    """The mean of an image's tokens, which tells what is to be seen and not where, as a unit vector."""

    def describe(params: PyTree, images: UInt8[Array, "n h w 3"]) -> Float[Array, "n d"]:
        mean = jnp.mean(encode(params, images).astype(jnp.float32), axis=1)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)

    return describe


def execution(portable: bool) -> dict[str, str]:
    """How a network is run: activations in bfloat16 where the device is quick in it, attention by its fastest kernel.

    `portable`: float32 and what every device can do, so that it gives the same everywhere.
    """
    if portable:
        return {"dtype": "float32", "attention": "chunked"}
    return {"dtype": "bfloat16" if jax.default_backend() == "gpu" else "float32", "attention": "auto"}
