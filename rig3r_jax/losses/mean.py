"""A mean that can be merged: sum and count travel together, so that no mean of means is ever taken."""

import typing

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float


@typing.no_type_check
@struct.dataclass
class Mean:
    """A sum and how many things it sums over."""

    total: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def of(cls, values: Float[Array, "*b"], mask: Bool[Array, "*b"] | None = None) -> "Mean":
        """Mean of `values` where `mask` holds; masked values may be NaN and pass no gradient."""
        if mask is None:
            return cls(values.sum(), jnp.asarray(values.size, values.dtype))
        return cls(jnp.where(mask, values, 0.0).sum(), mask.sum().astype(values.dtype))

    def merge(self, other: "Mean") -> "Mean":
        """The mean over both sets of things."""
        return Mean(self.total + other.total, self.count + other.count)

    def compute(self) -> Float[Array, ""]:
        """The mean; NaN over nothing."""
        return self.total / self.count
