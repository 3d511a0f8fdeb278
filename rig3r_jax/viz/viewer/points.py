"""The points as nodes of a viser scene."""

import typing

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.exports.frusta import shown_length
from rig3r_jax.viz.viewer.content import Content

if typing.TYPE_CHECKING:
    import viser

_POINT = 0.1  # of the length of the frusta


class Points:
    """The points, in a node for each step; of points whose images are not known in one."""

    def __init__(self, server: "viser.ViserServer", content: Content, center: Float[np.ndarray, "3"]):
        self._server, self._cloud = server, content.cloud
        self._places = (content.cloud.points_world - center).astype(np.float32)
        self._by_step = content.cloud.image is not None
        steps = np.zeros(len(content.cloud), np.int64)
        if self._by_step:
            step_of_image = np.zeros(len(content.reconstruction.images), np.int64)
            for step, images in enumerate(content.steps):
                step_of_image[images] = step
            steps = step_of_image[content.cloud.image]
        order = np.argsort(steps, kind="stable")
        self._rows = np.split(order, np.searchsorted(steps[order], np.arange(1, len(content.steps))))
        self._nodes: dict[int, viser.PointCloudHandle] = {}
        self._unit = _POINT * shown_length(content.reconstruction)

    def draw(self, colors: UInt8[np.ndarray, "n 3"], chosen: Bool[np.ndarray, " n"], size: float) -> None:
        """All of them anew; `size` in units of the usual one."""
        for step, rows in enumerate(self._rows):
            rows = rows[chosen[rows]]
            before = self._nodes.pop(step, None)
            if not len(rows):
                if before is not None:
                    before.remove()
                continue
            self._nodes[step] = self._server.scene.add_point_cloud(
                f"/points/{step}",
                self._places[rows],
                colors[rows],
                point_size=size * self._unit,
                point_shape="circle",
                point_shading="flat",
                precision="float32",
                visible=before is None or before.visible,
            )

    def resize(self, size: float) -> None:
        """`size` in units of the usual one."""
        for node in self._nodes.values():
            node.point_size = size * self._unit

    def show(self, steps: set[int]) -> None:
        """Those of some steps alone; where the images of the points are not known, all of them."""
        for step, node in self._nodes.items():
            node.visible = not self._by_step or step in steps
