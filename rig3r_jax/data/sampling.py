"""Which frames of a scene make one sample: a grid of times x cameras, or what shows the same things; shuffled."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rig3r_jax.data.covisibility import Links
from rig3r_jax.data.overlap import overlapping_cameras
from rig3r_jax.data.scene import BadRecord, Scene

_ATTEMPTS = 20  # windows tried in a scene with missing frames before all that it has are looked at
_NEARLY = 0.05  # of a scene's own interval, that strides in seconds may be beyond their limits

Moment = dict[int, int]  # the frames of a time step by camera


@dataclasses.dataclass(frozen=True)
class GridRule:
    """What grids a sample may be; `data.options.PipelineOptions` explains the fields, which have the same names."""

    num_views: int
    max_cameras: int
    min_cameras: int = 1
    max_stride: int = 1
    min_stride: int = 1
    grids: Sequence[Sequence[int]] = ()
    min_seconds: float = 0.0
    max_seconds: float = 0.0
    overlapping: float = 0.0
    apart: float = 0.0
    covisible: float = 0.0

    def __str__(self) -> str:
        cameras = f"{self.min_cameras} to {self.max_cameras} cameras"
        cameras = f"grids {[tuple(grid) for grid in self.grids]}" if self.grids else cameras
        seconds = f"steps {self.min_seconds:g} to {self.max_seconds:g} s apart"
        return f"{cameras}, {seconds if self.max_seconds else f'stride of at least {self.min_stride}'}"


def draw_frames(scene: Scene, rng: np.random.Generator, num_views: int, max_cameras: int, **more: Any) -> list[int]:
    """Indices into `scene.frames` of `num_views` frames in random order; the first is the sample's reference.

    The number of cameras is uniform over the counts that the scene allows, the number of time steps the smallest that
    covers `num_views`; or both come from `grids`, pairs (times, cameras). Time steps are evenly spaced by a random
    stride, in steps of the rig or, with `max_seconds`, in seconds; cameras are a random subset that always holds the
    front camera. A grid with more than `num_views` frames loses random ones, the front camera's last. `more` are the
    other fields of `GridRule`. BadRecord when the scene is too small.

    Of a scene without order frames are drawn that show the same things: each shows at least the share `covisible` of
    what another one of the sample shows.
    """
    rule = GridRule(num_views, max_cameras, **more)
    if links := _links(scene, rule):
        return links.draw(rng, num_views)
    steps = _Steps(scene, rule)
    fitting = steps.fitting_grids()
    for _ in range(_ATTEMPTS if fitting else 0):
        times, count = fitting[rng.integers(len(fitting))]
        window = steps.draw(rng, times)
        complete = _complete(window, scene.front_camera)
        if len(complete) >= count - 1 and steps.in_time(window):
            return _draw_from(scene, window, complete, count, rule, rng)
    if filled := list(steps.filled_windows(fitting)):
        window, complete, count = filled[rng.integers(len(filled))]
        return _draw_from(scene, window, complete, count, rule, rng)
    raise BadRecord(
        f"scene {scene.name}: {len(scene.frames)} frames, {len(steps.moments)} steps with the front camera, "
        f"{steps.cameras} cameras are too few for {num_views} views ({rule}); lower num_views (--views of a benchmark, "
        "--config.sampling.num_views of a run), min_stride or min_seconds, widen the camera counts or grids, or leave "
        "this scene out"
    )


def in_order(scene: Scene, chosen: Sequence[int]) -> list[int]:
    """These frames by time step, of each the front camera's first and then by the number of the camera."""
    frames = scene.frames

    def place(row: int) -> tuple[int, bool, int]:
        return frames[row].step, frames[row].camera != scene.front_camera, frames[row].camera

    return sorted(chosen, key=place)


def can_fill(scene: Scene, num_views: int, max_cameras: int, **more: Any) -> bool:
    """Whether `draw_frames` finds a sample in a scene, whatever it draws."""
    rule = GridRule(num_views, max_cameras, **more)
    if links := _links(scene, rule):
        return links.most >= num_views
    steps = _Steps(scene, rule)
    return any(steps.filled_windows(steps.fitting_grids()))


def extent(scene: Scene) -> str:
    """What a scene offers to samples, such as 2 steps x 6 cameras."""
    moments, cameras = _moments(scene)
    return f"{len(moments)} steps x {cameras} cameras"


def _links(scene: Scene, rule: GridRule) -> Links | None:
    """Of a scene without order, if samples of one camera are allowed; None: its samples are grids."""
    alone = any(count == 1 for _, count in rule.grids) if rule.grids else rule.min_cameras == 1
    return Links(scene, rule.covisible) if not scene.ordered and rule.covisible and alone else None


class _Steps:
    """The time steps of a scene that samples are drawn from, and how far apart they may be."""

    def __init__(self, scene: Scene, rule: GridRule) -> None:
        self._scene, self._rule, self._front = scene, rule, scene.front_camera
        self.moments, self.cameras = _moments(scene)
        self._low, self._high, self._interval = rule.min_stride, rule.max_stride, 0.0
        if rule.max_seconds:
            self._interval = float(np.median(self._gaps(self.moments))) if len(self.moments) > 1 else math.inf
            self._low = max(math.ceil(rule.min_seconds / self._interval - _NEARLY), 1)
            self._high = math.floor(rule.max_seconds / self._interval + _NEARLY)

    def fitting_grids(self) -> list[tuple[int, int]]:
        """The pairs (times, cameras) that cover `num_views` and that the scene can fill."""
        rule = self._rule
        counts = range(rule.min_cameras, min(rule.max_cameras, rule.num_views) + 1)
        allowed = rule.grids or [(-(-rule.num_views // count), count) for count in counts]
        return [
            (times, count)
            for times, count in allowed
            if count <= self.cameras
            and times * count >= rule.num_views
            and (times - 1) * self._low < len(self.moments)
            and (times == 1 or self._low <= self._high)
        ]

    def draw(self, rng: np.random.Generator, times: int) -> list[Moment]:
        """`times` evenly spaced steps."""
        longest = (len(self.moments) - 1) // (times - 1) if times > 1 else 1
        stride = int(rng.integers(self._low, max(self._low, min(self._high, longest)) + 1))
        start = int(rng.integers(len(self.moments) - (times - 1) * stride))
        return self.moments[start : start + (times - 1) * stride + 1 : stride]

    def in_time(self, window: list[Moment]) -> bool:
        """Whether no gap of the recording, where strides are in seconds, parts the steps of a window."""
        longest = self._rule.max_seconds + self._interval / 2
        return not self._rule.max_seconds or bool((self._gaps(window) < longest).all())

    def _gaps(self, moments: list[Moment]) -> np.ndarray:
        """Seconds from each step to the next, by the front camera."""
        return np.diff([self._scene.frames[moment[self._front]].time for moment in moments])

    def filled_windows(self, grids: Sequence[tuple[int, int]]) -> Iterator[tuple[list[Moment], list[int], int]]:
        """Every window that fills a grid, with its complete cameras and the grid's count of them."""
        for times, count in grids:
            for stride in range(self._low, self._high + 1 if times > 1 else self._low + 1):
                span = (times - 1) * stride + 1
                for start in range(len(self.moments) - span + 1):
                    window = self.moments[start : start + span : stride]
                    complete = _complete(window, self._front)
                    if len(complete) >= count - 1 and self.in_time(window):
                        yield window, complete, count


def _moments(scene: Scene) -> tuple[list[Moment], int]:
    """Every step with the front camera, which a sample always holds; and how many cameras they have."""
    table: dict[int, Moment] = {}
    for index, frame in enumerate(scene.frames):
        table.setdefault(frame.step, {})[frame.camera] = index
    moments = [table[step] for step in sorted(table) if scene.front_camera in table[step]]
    return moments, len(set().union(*moments)) if moments else 0


def _complete(window: list[Moment], front: int) -> list[int]:
    """The cameras beside the front one that have an image at every step."""
    return [c for c in window[0] if c != front and all(c in moment for moment in window)]


def _draw_from(
    scene: Scene, window: list[Moment], complete: list[int], count: int, rule: GridRule, rng: np.random.Generator
) -> list[int]:
    """`num_views` frames of the front camera and of `count` - 1 random ones of those that are complete."""
    kind = rng.random() if rule.overlapping or rule.apart else 1.0
    others = rng.permutation(np.array(complete, dtype=np.int64)).tolist()
    if kind < rule.overlapping + rule.apart:
        others = _by_overlap(scene, others, overlapping=kind < rule.overlapping)
    return _fill(window, scene.front_camera, others[: count - 1], rule.num_views, rng)


def _by_overlap(scene: Scene, cameras: list[int], overlapping: bool) -> list[int]:
    """The cameras, each next one the first that sees something of what those before and the front one see, or that
    sees nothing of it; where there is none such, the first of the rest."""
    overlaps, chosen, rest = overlapping_cameras(scene.cameras), [scene.front_camera], list(cameras)
    while rest:
        chosen.append(next((c for c in rest if overlaps[c, chosen].any() == overlapping), rest[0]))
        rest.remove(chosen[-1])
    return chosen[1:]


def _fill(window: list[Moment], front: int, others: list[int], num_views: int, rng: np.random.Generator) -> list[int]:
    """`num_views` frames of the grid in random order; the front camera's are the last to be left out."""
    fronts = rng.permutation([moment[front] for moment in window])
    rest = rng.permutation(np.array([moment[camera] for moment in window for camera in others], dtype=np.int64))
    return rng.permutation(np.concatenate([fronts, rest])[:num_views]).tolist()
