"""What is known about the rig, as a vector per token."""

import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.lenses import batch_lens
from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.geometry.raymap import raymap
from rig3r_jax.models.positions import sincos
from rig3r_jax.schema import RigMetadata


class RigEmbedding(nn.Module):
    """Sum of one projection per metadata field; a field that is absent for an image gives its learned null vector.

    The sum equals one linear layer over the concatenated fields (paper: "concatenated and added").
    """

    width: int
    code_width: int = 64  # sine-cosine channels per scalar field
    time_unit: float = 0.1  # seconds that count as one position of the code
    index_only: bool = False  # of the fields the frame index alone, which is never absent
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(
        self, metadata: RigMetadata, rows: int, columns: int, height: int, width: int
    ) -> Float[Array, "b v n d"]:
        """Embedding of the rows x columns patches of height x width images, with the rig rays of their centres."""
        precise = at_least_float32(self.dtype)

        def code(numbers):
            return sincos(numbers, self.code_width, dtype=precise)[:, :, None]

        embedding = self._project("frame_index", code(metadata.frame_index))
        if self.index_only:
            return jnp.broadcast_to(embedding, (*embedding.shape[:2], rows * columns, self.width)).astype(self.dtype)
        lenses = batch_lens(metadata.intrinsics, metadata.distortion)
        rays, center = raymap(metadata.rig_from_camera, lenses, height, width, rows, columns)
        rig = jnp.concatenate([rays, jnp.broadcast_to(center[..., None, None, :], rays.shape)], axis=-1)
        rig = rig.reshape(*rig.shape[:2], rows * columns, 6)
        for name, value, has_value in (
            ("camera_id", code(metadata.camera_id), metadata.has_camera_id),
            ("time", code(metadata.time / self.time_unit), metadata.has_time),
            ("rig", rig, metadata.has_rig),
        ):
            null = self.param(f"{name}_null", nn.initializers.normal(0.02), (self.width,))
            has_value = has_value[:, :, None, None]
            # What is unknown may be anything, NaN too: it is cleared before the projection, or its gradient were NaN.
            embedding = embedding + jnp.where(has_value, self._project(name, jnp.where(has_value, value, 0.0)), null)
        return embedding.astype(self.dtype)

    def _project(self, name: str, value: Float[Array, "b v *n c"]) -> Float[Array, "b v *n d"]:
        init = nn.initializers.xavier_uniform()
        return nn.Dense(self.width, kernel_init=init, dtype=at_least_float32(self.dtype), name=name)(value)
