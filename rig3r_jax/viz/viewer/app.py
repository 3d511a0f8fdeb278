"""The viewer: what is drawn, and the panel that governs it."""

import threading
import typing

import numpy as np
from jaxtyping import UInt8

from rig3r_jax.exports.colors import COLORINGS
from rig3r_jax.exports.report.pack import scene_center, up_direction
from rig3r_jax.exports.report.tables import UNITS, standard_deviations
from rig3r_jax.formats.html import format_number
from rig3r_jax.schema import CONFIDENT
from rig3r_jax.viz.viewer.cameras import TRUE_COLOR, Cameras
from rig3r_jax.viz.viewer.content import Content
from rig3r_jax.viz.viewer.points import Points
from rig3r_jax.viz.viewer.truth import Truth

if typing.TYPE_CHECKING:
    import viser

SCOPES = ("all images", "the step", "the steps so far")
FIRST_SHOWN = 500_000  # points, where there are more
_SHEET = 3  # pictures abreast in the panel


class App:
    """Draws a content on a server; callbacks of the panel come from the server's threads, one at a time."""

    def __init__(self, server: "viser.ViserServer", content: Content, truth: Truth | None = None):
        self._server, self._content, self._truth = server, content, truth
        self._lock, self._wanted = threading.RLock(), 0
        center = scene_center(content.reconstruction)
        images = dict(enumerate(content.reconstruction.images))
        server.gui.configure_theme(show_share_button=False, show_logo=False)
        self._set_view(center)
        self._points = Points(server, content, center) if content.cloud is not None else None
        self._cameras = Cameras(server, "/cameras", content.reconstruction, images, center)
        self._true = truth and Cameras(server, "/truth", content.reconstruction, truth.images, center, TRUE_COLOR)
        self._add_panel()
        self._draw_points()
        self.show_step()

    @property
    def seconds(self) -> float:
        """Between two steps while it plays."""
        return 1.0 / self._rate.value

    def tick(self) -> None:
        """Goes one step on, where it plays. A control that is set calls back, as one that is moved."""
        if self._playing.value:
            self._step.value = (self._step.value + 1) % len(self._content.steps)

    def show_step(self) -> None:
        """Draws what the panel says of the step and the cameras."""
        with self._lock, self._server.atomic():
            step, scope = int(self._step.value), self._scope.value
            first = {SCOPES[0]: 0, SCOPES[1]: step, SCOPES[2]: 0}[scope]
            last = len(self._content.steps) - 1 if scope == SCOPES[0] else step
            steps = set(range(first, last + 1))
            images = [image for number in sorted(steps) for image in self._content.steps[number]]
            current, scale = self._content.steps[step], self._scale.value
            pictures = self._content.thumbnails.pictures if self._pictures.value else {}
            if self._points:
                self._points.show(steps)
            self._cameras.draw(images if self._frusta.value else [], current, scale, pictures, self._stand)
            if self._true:
                self._true.draw(images if self._truth_shown.value else [], current, scale, {}, self._stand)
            self._text.content = self._words(step)
            self._show_sheet(step)

    def _add_panel(self) -> None:
        gui, content = self._server.gui, self._content
        gui.add_markdown(self._summary())
        if self._points:
            with gui.add_folder("Points"):
                names = {COLORINGS[name]: name for name in content.colorings}
                self._coloring = gui.add_dropdown("Colours of", tuple(names))
                self._coloring_names = names
                surest = 100 if content.cloud.confidence is None else round(100 * CONFIDENT)
                self._surest = gui.add_slider("Surest, %", 1, 100, 1, surest, hint="the model's own confidence")
                self._surest.disabled = content.cloud.confidence is None
                most = len(content.cloud)
                step = max(1, most // 200)
                self._count = gui.add_slider("Number", min(step, most), most, 1, min(most, FIRST_SHOWN))
                self._size = gui.add_slider("Point size", 0.1, 5.0, 0.1, 1.0)
            for control in (self._coloring, self._surest, self._count):
                control.on_update(lambda _: self._draw_points())
            self._size.on_update(lambda _: self._points.resize(self._size.value))
        with gui.add_folder("Cameras"):
            self._frusta = gui.add_checkbox("Frusta", True)
            self._pictures = gui.add_checkbox("Pictures of the step", True)
            self._scale = gui.add_slider("Camera size", 0.1, 4.0, 0.1, 1.0)
            self._truth_shown = gui.add_checkbox("Truth", True, visible=self._truth is not None)
        with gui.add_folder("Time"):
            self._scope = gui.add_dropdown("Show", SCOPES)
            last = len(content.steps) - 1
            self._step = gui.add_slider("Step", 0, max(last, 1), 1, 0, disabled=not last)
            self._playing = gui.add_checkbox("Play", False)
            self._rate = gui.add_slider("Steps per second", 0.5, 10.0, 0.5, 2.0)
            self._text = gui.add_markdown("")
            self._sheet = gui.add_image(np.zeros((8, 8, 3), np.uint8), visible=False)
        for control in (self._frusta, self._pictures, self._scale, self._truth_shown, self._scope, self._step):
            control.on_update(lambda _: self.show_step())

    def _draw_points(self) -> None:
        """All points anew. Of calls that wait for one another only the last counts."""
        if not self._points:
            return
        self._wanted += 1
        mine = self._wanted
        with self._lock:
            if mine != self._wanted:
                return
            cloud, coloring = self._content.cloud, self._coloring_names[self._coloring.value]
            chosen = cloud.chosen(self._surest.value / 100, int(self._count.value))
            with self._server.atomic():
                self._points.draw(self._content.colored(coloring), chosen, self._size.value)
            self.show_step()

    def _stand(self, client: "viser.ClientHandle | None", number: int) -> None:
        """Lets a client look from where an image was taken."""
        step = next(step for step, images in enumerate(self._content.steps) if number in images)
        self._step.value = step
        if client is not None:
            with client.atomic():
                client.camera.wxyz, client.camera.position = self._cameras.view(number)

    def _summary(self) -> str:
        content, reconstruction = self._content, self._content.reconstruction
        cloud = content.cloud
        points = f"{len(cloud):,} points of {cloud.source}" if cloud is not None else "no points"
        lines = [
            f"{len(reconstruction.images)} images, {points}; lengths in {UNITS[reconstruction.length_unit]}",
            content.thumbnails.note(),
            self._truth.note(UNITS[reconstruction.length_unit]) if self._truth else "",
        ]
        return "\n\n".join(_plain(line) for line in lines if line)

    def _words(self, step: int) -> str:
        """Names, times, deviations and errors of the images of a step."""
        unit, lines = UNITS[self._content.reconstruction.length_unit], []
        for number in self._content.steps[step]:
            image = self._content.reconstruction.images[number]
            words = [image.name] + ([] if image.time is None else [f"{image.time:.2f} s"])
            if image.covariance is not None:
                centre, direction = standard_deviations(image)
                words.append(f"σ {centre} {unit}, {direction}°")
            if self._truth and number in self._truth.errors:
                distance, angle = self._truth.errors[number]
                words.append(f"off by {format_number(distance, 3)} {unit}, {format_number(angle, 3)}°")
            lines.append(_plain(" · ".join(words)))
        return "\n\n".join(lines)

    def _show_sheet(self, step: int) -> None:
        by_image = self._content.thumbnails.pictures
        pictures = [by_image[number] for number in self._content.steps[step] if number in by_image]
        self._sheet.visible = bool(pictures)
        if pictures:
            self._sheet.image = contact_sheet(pictures)

    def _set_view(self, center: np.ndarray) -> None:
        """From behind and above the first image, as in the report."""
        content, poses = self._content, self._content.reconstruction.world_from_camera
        up = up_direction(poses)
        places = poses[:, :3, 3] - center
        cloud = places if content.cloud is None else content.cloud.points_world[:20_000] - center
        focus = np.median(cloud, axis=0)
        away = np.linalg.norm(places - focus, axis=-1).max()
        radius = max(np.median(np.linalg.norm(cloud - focus, axis=-1)), away) or 1.0
        level = [axis - (axis @ up) * up for axis in (poses[0, :3, 2], *np.eye(3))]
        forward = next(axis for axis in level if np.linalg.norm(axis) > 0.1)  # the first may look straight up
        view = forward / np.linalg.norm(forward) - 0.5 * up
        self._server.scene.set_up_direction(up)
        self._server.initial_camera.look_at = focus
        self._server.initial_camera.position = focus - 1.8 * radius * view / np.linalg.norm(view)


def contact_sheet(pictures: list[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "hs ws 3"]:
    """Pictures side by side, three abreast, on white."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    columns = min(_SHEET, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()<>#+-.!|" else letter for letter in text)
