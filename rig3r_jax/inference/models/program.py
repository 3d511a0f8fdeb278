"""A network as a function of its parameters and of arrays, compiled ahead for the shapes of a pass."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.weights.files import release

KEPT = 4  # compiled programs, those used last


class Program:
    """`function(params, inputs)` with the parameters on the device, once for all passes."""

    def __init__(self, function: Callable[[PyTree, PyTree], PyTree], params: PyTree):
        self.function = function
        self.params = jax.tree.map(_placed, params)
        self._jitted = jax.jit(function)
        self._compiled: dict[tuple, jax.stages.Compiled] = {}

    def __call__(self, inputs: PyTree) -> PyTree:
        """Outputs on the host."""
        return jax.device_get(self._program(inputs)(self.params, inputs))

    def peak_bytes(self, inputs: PyTree) -> int:
        """Bytes that the device holds during a call with inputs of these shapes: what the compiler has allotted.

        Parameters, inputs and outputs are among them; the libraries that it calls may want some more of their own.
        """
        memory = self._program(inputs).memory_analysis()
        names = ("argument", "output", "temp", "generated_code")
        return sum(getattr(memory, f"{name}_size_in_bytes") for name in names) - memory.alias_size_in_bytes

    def _program(self, inputs: PyTree) -> jax.stages.Compiled:
        leaves, structure = jax.tree.flatten(inputs)
        key = (structure, *((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves))
        compiled = self._compiled.pop(key, None)
        if compiled is None:
            compiled = self._jitted.lower(self.params, inputs).compile()
        self._compiled[key] = compiled  # the last one in
        while len(self._compiled) > KEPT:
            del self._compiled[next(iter(self._compiled))]
        return compiled


def _placed(leaf: np.ndarray | jax.Array) -> jax.Array:
    on_device = jax.device_put(leaf, jax.devices()[0])
    if isinstance(leaf, np.ndarray):
        on_device.block_until_ready()
        release(leaf)
    return on_device
