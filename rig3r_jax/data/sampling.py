"""Which frames of a scene make one sample: a grid of times x cameras, shuffled."""

from collections.abc import Iterator, Sequence

import numpy as np

from rig3r_jax.data.scene import BadRecord, Scene

_ATTEMPTS = 20  # windows tried in a scene with missing frames before all that it has are looked at


def draw_frames(
    scene: Scene,
    rng: np.random.Generator,
    num_views: int,
    max_cameras: int,
    min_cameras: int = 1,
    max_stride: int = 1,
    min_stride: int = 1,
    grids: Sequence[Sequence[int]] = (),
) -> list[int]:
    """Indices into `scene.frames` of `num_views` frames in random order; the first is the sample's reference.

    The number of cameras is uniform over the counts that the scene allows, the number of time steps the smallest that
    covers `num_views`; or both come from `grids`, pairs (times, cameras). Time steps are evenly spaced by a random
    stride (in steps of the rig), cameras a random subset that always holds the front camera. A grid with more than
    `num_views` frames loses random ones, the front camera's last. BadRecord when the scene is too small.
    """
    moments, cameras = _moments(scene)
    fitting = _fitting_grids(len(moments), cameras, num_views, (min_cameras, max_cameras), min_stride, grids)
    for _ in range(_ATTEMPTS if fitting else 0):
        times, count = fitting[rng.integers(len(fitting))]
        window = _draw_window(moments, rng, times, min_stride, max_stride)
        complete = _complete(window, scene.front_camera)
        if len(complete) >= count - 1:
            return _draw_from(window, complete, count, scene.front_camera, num_views, rng)
    if filled := list(_filled_windows(moments, fitting, scene.front_camera, min_stride, max_stride)):
        window, complete, count = filled[rng.integers(len(filled))]
        return _draw_from(window, complete, count, scene.front_camera, num_views, rng)
    rule = f"grids {[tuple(grid) for grid in grids]}" if grids else f"{min_cameras} to {max_cameras} cameras"
    raise BadRecord(
        f"scene {scene.name}: {len(scene.frames)} frames, {len(moments)} steps with the front camera, "
        f"{cameras} cameras are too few for {num_views} views ({rule}, stride of at least {min_stride}); "
        "lower num_views (--views of a benchmark, --config.sampling.num_views of a run) or min_stride, widen the "
        "camera counts or grids, or leave this scene out"
    )


def can_fill(
    scene: Scene,
    num_views: int,
    max_cameras: int,
    min_cameras: int = 1,
    max_stride: int = 1,
    min_stride: int = 1,
    grids: Sequence[Sequence[int]] = (),
) -> bool:
    """Whether `draw_frames` finds a sample in a scene, whatever it draws."""
    moments, cameras = _moments(scene)
    fitting = _fitting_grids(len(moments), cameras, num_views, (min_cameras, max_cameras), min_stride, grids)
    return any(_filled_windows(moments, fitting, scene.front_camera, min_stride, max_stride))


def extent(scene: Scene) -> str:
    """What a scene offers to samples, such as 2 steps x 6 cameras."""
    moments, cameras = _moments(scene)
    return f"{len(moments)} steps x {cameras} cameras"


def _moments(scene: Scene) -> tuple[list[dict[int, int]], int]:
    """Of every step with the front camera, which a sample always holds, {camera: frame}; and how many cameras."""
    table: dict[int, dict[int, int]] = {}
    for index, frame in enumerate(scene.frames):
        table.setdefault(frame.step, {})[frame.camera] = index
    moments = [table[step] for step in sorted(table) if scene.front_camera in table[step]]
    return moments, len(set().union(*moments)) if moments else 0


def _complete(window: list[dict[int, int]], front: int) -> list[int]:
    """The cameras beside the front one that have an image at every step."""
    return [c for c in window[0] if c != front and all(c in moment for moment in window)]


def _filled_windows(
    moments: list[dict[int, int]], grids: Sequence[tuple[int, int]], front: int, min_stride: int, max_stride: int
) -> Iterator[tuple[list[dict[int, int]], list[int], int]]:
    """Every window that fills a grid, with its complete cameras and the grid's count of them."""
    for times, count in grids:
        for stride in range(min_stride, max_stride + 1 if times > 1 else min_stride + 1):
            span = (times - 1) * stride + 1
            for start in range(len(moments) - span + 1):
                window = moments[start : start + span : stride]
                complete = _complete(window, front)
                if len(complete) >= count - 1:
                    yield window, complete, count


def _fitting_grids(
    steps: int,
    cameras: int,
    num_views: int,
    camera_range: tuple[int, int],
    min_stride: int,
    grids: Sequence[Sequence[int]],
) -> list[tuple[int, int]]:
    """The pairs (times, cameras) that cover `num_views` and that `steps` and `cameras` can fill."""
    low, high = camera_range
    allowed = grids or [(-(-num_views // count), count) for count in range(low, min(high, num_views) + 1)]
    return [
        (times, count)
        for times, count in allowed
        if count <= cameras and times * count >= num_views and (times - 1) * min_stride < steps
    ]


def _draw_window(
    moments: list[dict[int, int]], rng: np.random.Generator, times: int, min_stride: int, max_stride: int
) -> list[dict[int, int]]:
    """`times` evenly spaced elements of `moments`."""
    longest = (len(moments) - 1) // (times - 1) if times > 1 else 1
    stride = int(rng.integers(min_stride, max(min_stride, min(max_stride, longest)) + 1))
    start = int(rng.integers(len(moments) - (times - 1) * stride))
    return moments[start : start + (times - 1) * stride + 1 : stride]


def _draw_from(
    window: list[dict[int, int]], complete: list[int], count: int, front: int, num_views: int, rng: np.random.Generator
) -> list[int]:
    """`num_views` frames of the front camera and of `count` - 1 random ones of those that are complete."""
    others = rng.permutation(np.array(complete, dtype=np.int64))[: count - 1]
    return _fill(window, front, others.tolist(), num_views, rng)


def _fill(
    window: list[dict[int, int]], front: int, others: list[int], num_views: int, rng: np.random.Generator
) -> list[int]:
    """`num_views` frames of the grid in random order; the front camera's are the last to be left out."""
    fronts = rng.permutation([moment[front] for moment in window])
    rest = rng.permutation(np.array([moment[camera] for moment in window for camera in others], dtype=np.int64))
    return rng.permutation(np.concatenate([fronts, rest])[:num_views]).tolist()
