"""The cameras as nodes of a viser scene: a few for all of them, as browsers draw thousands of nodes slowly."""

import typing
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from rig3r_jax.exports.frusta import frusta_of, picture_corners, shown_length
from rig3r_jax.schema import PosedImage, Reconstruction

if typing.TYPE_CHECKING:
    import viser

TRUE_COLOR = (25, 25, 25)  # no camera has it
_THICK, _THIN = 3.0, 1.5  # pixels: edges of the current images, of the others
_KNOB = 0.12  # of the length of the frusta: what can be clicked at the centre of each
_OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
_OCTAHEDRON_FACES = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], np.uint32
)


class Cameras:
    """Frusta of images, those of the current step with thicker edges and their pictures."""

    def __init__(
        self,
        server: "viser.ViserServer",
        root: str,
        reconstruction: Reconstruction,
        images: dict[int, PosedImage],
        center: Float[np.ndarray, "3"],
        color: tuple[int, int, int] | None = None,
    ):
        """Takes `images`; `reconstruction` sets their size. Nodes lie below `root`. No `color`: by physical camera."""
        self._server, self._root, self._images = server, root, images
        self._length = shown_length(reconstruction)
        frusta = frusta_of(Reconstruction(tuple(images.values()), reconstruction.cameras), self._length)
        self._centers, self._edges, self._colors, self._corners = {}, {}, {}, {}
        for (number, image), frustum in zip(images.items(), frusta, strict=True):
            eye = image.world_from_camera[:3, 3]
            self._centers[number] = eye - center
            self._edges[number] = frustum.vertices_world[frustum.segments] - eye
            self._corners[number] = picture_corners(image, frustum) - eye
            self._colors[number] = np.array(color or frustum.color, np.uint8)
        self.nodes: dict[str, viser.SceneNodeHandle] = {}
        self.drawn: tuple[int, ...] = ()  # the images whose frusta are there

    def draw(
        self,
        numbers: Sequence[int],
        current: Sequence[int],
        scale: float,
        pictures: dict[int, UInt8[np.ndarray, "_ _ 3"]],
        clicked: Callable[["viser.ClientHandle | None", int], None],
    ) -> None:
        """All nodes anew.

        Args:
            numbers: the images whose frusta are drawn.
            current: those of the step.
            scale: of the frusta, about their centres.
            pictures: what is shown in the frusta of the step.
            clicked: called with the client and the number of an image whose camera, or picture, is clicked.
        """
        for node in self.nodes.values():
            node.remove()
        self.nodes, self.drawn = {}, tuple(number for number in numbers if number in self._images)
        if not self.drawn:
            return
        thick = [number for number in self.drawn if number in set(current)]
        thin = [number for number in self.drawn if number not in set(current)]
        for name, part, thickness in (("others", thin, _THIN), ("step", thick, _THICK)):
            if part:
                self.nodes[name] = self._add_edges(name, part, scale, thickness)
        self.nodes["knobs"] = self._add_knobs(scale, clicked)
        for number in thick:
            if number in pictures:
                self.nodes[f"picture {number}"] = self._add_picture(number, pictures[number], scale, clicked)

    def view(self, number: int) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "3"]]:
        """Quaternion (w, x, y, z) and place of a camera in the scene."""
        rotation = self._images[number].world_from_camera[:3, :3]
        return Rotation.from_matrix(rotation).as_quat(scalar_first=True), self._centers[number]

    def _add_edges(self, name: str, numbers: list[int], scale: float, thickness: float) -> "viser.LineSegmentsHandle":
        segments = [self._centers[number] + scale * self._edges[number] for number in numbers]
        colors = [np.broadcast_to(self._colors[number], self._edges[number].shape) for number in numbers]
        return self._server.scene.add_line_segments(
            f"{self._root}/{name}",
            np.concatenate(segments).astype(np.float32),
            np.concatenate(colors),
            thickness=thickness,
            thickness_units="screen",
        )

    def _add_knobs(
        self, scale: float, clicked: Callable[["viser.ClientHandle | None", int], None]
    ) -> "viser.BatchedMeshHandle":
        numbers = self.drawn
        knobs = self._server.scene.add_batched_meshes_simple(
            f"{self._root}/knobs",
            _OCTAHEDRON * (_KNOB * self._length * scale),
            _OCTAHEDRON_FACES,
            batched_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (len(numbers), 1)),
            batched_positions=np.stack([self._centers[number] for number in numbers]),
            batched_colors=np.stack([self._colors[number] for number in numbers]),
            lod="off",
            cast_shadow=False,
            receive_shadow=False,
        )
        knobs.on_click(lambda event: clicked(event.client, numbers[event.instance_index]))
        return knobs

    def _add_picture(
        self,
        number: int,
        picture: UInt8[np.ndarray, "h w 3"],
        scale: float,
        clicked: Callable[["viser.ClientHandle | None", int], None],
    ) -> "viser.ImageHandle":
        upper_left, upper_right, lower_right, _ = self._corners[number] * scale
        quaternion, place = self.view(number)
        node = self._server.scene.add_image(
            f"{self._root}/picture/{number}",
            picture,
            float(np.linalg.norm(upper_right - upper_left)),
            float(np.linalg.norm(lower_right - upper_right)),
            cast_shadow=False,
            receive_shadow=False,
            wxyz=quaternion,
            position=place + (upper_left + lower_right) / 2,
        )
        node.on_click(lambda event: clicked(event.client, number))
        return node
