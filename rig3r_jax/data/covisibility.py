"""Which frames of an unordered set show the same things: what its samples are drawn by."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, RigCamera, Scene, SparseDepth
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.visible import in_image

WHOLE = 255  # what stands for a share of 1
_POINTS = 256  # of a frame at most, that are looked for in the others
_SAME_DEPTH = 0.1  # of a point's distance, that a dense depth may be off it
_SAME_POINT = 0.01  # of a point's distance, that one of another frame's sparse points may be off it
_GRID = 8  # rows and columns of rays of a frame without depth
_GUESSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # distances along them, in units of how far apart the cameras are


def covisibility(scene: Scene) -> UInt8[np.ndarray, "n n"]:
    """Of each two frames the share of what one shows that the other shows too, the lesser of both ways, of 255.

    A frame's points of known depth are looked for in the others: among the points of a sparse depth, such as those of a
    COLMAP model, which two frames share; by its value where a dense depth holds one; or, where there is no depth,
    within the image. Of a frame without depth the view is filled with points at distances of 1 to 16 times that of the
    cameras from their middle.
    """
    cameras = [scene.cameras[frame.camera] for frame in scene.frames]
    guesses = _spread(scene.frames) * np.array(_GUESSES)
    views = [_View.of(frame, camera, guesses) for frame, camera in zip(scene.frames, cameras, strict=True)]
    points_world = np.concatenate([view.points_world for view in views])
    measured = np.concatenate([np.full(len(view.points_world), view.depth is not None) for view in views])
    starts = np.cumsum([0, *(len(view.points_world) for view in views)])[:-1]
    shares = np.stack([np.add.reduceat(view.shows(points_world, measured), starts) for view in views], axis=1)
    shares = shares / np.array([len(view.points_world) for view in views])[:, None]
    shares = np.minimum(shares, shares.T)
    np.fill_diagonal(shares, 1)
    return np.round(WHOLE * shares).astype(np.uint8)


def _spread(frames: Sequence[Frame]) -> float:
    """Metres from the middle of the cameras to the median one; 1 where they are in one place."""
    centres = np.array([frame.world_from_camera[:3, 3] for frame in frames])
    return float(np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1))) or 1.0


@dataclasses.dataclass(frozen=True)
class _View:
    """A frame with points of what it shows, at least one."""

    camera: RigCamera
    camera_from_world: np.ndarray
    points_world: np.ndarray  # (p, 3)
    depth: DenseDepth | cKDTree | None  # with the points of a sparse one in the world; None: not known

    @classmethod
    def of(cls, frame: Frame, camera: RigCamera, guesses: Float[np.ndarray, " g"]) -> "_View":
        depth = decode_depth(frame.depth)
        pixels, distances = depth.known(_POINTS) if isinstance(depth, DenseDepth) else depth.known()
        if not len(distances):
            height, width = camera.size
            rows, columns = ((np.arange(_GRID) + 0.5) * side / _GRID for side in (height, width))
            grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
            pixels, distances = np.repeat(grid, len(guesses), axis=0), np.tile(guesses, len(grid))
            depth = None
        points_world = rigid.apply(frame.world_from_camera, camera.lens.rays(pixels) * distances[:, None])
        kept = points_world[np.linspace(0, len(points_world) - 1, min(_POINTS, len(points_world))).round().astype(int)]
        searchable = cKDTree(points_world) if isinstance(depth, SparseDepth) else depth
        return cls(camera, rigid.invert(frame.world_from_camera), kept, searchable)

    def shows(self, points_world: Float[np.ndarray, "p 3"], measured: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
        """Which points the frame shows; of those that were not measured, and in a frame without depth, which are within
        its image."""
        points_camera = rigid.apply(self.camera_from_world, points_world)
        distances = np.linalg.norm(points_camera, axis=1)
        pixels, visible = in_image(self.camera.lens, self.camera.size, points_camera)
        comparable = np.flatnonzero(visible & measured)
        if isinstance(self.depth, cKDTree):
            off, _ = self.depth.query(points_world[comparable])
            visible[comparable] = off < _SAME_POINT * distances[comparable]
        elif self.depth is not None:
            columns, rows = pixels[comparable].astype(np.int64).T
            off = np.abs(self.depth.values[rows, columns].astype(np.float64) - distances[comparable])
            visible[comparable] = off < _SAME_DEPTH * distances[comparable]
        return visible


class Links:
    """The frames of a scene without order, each linked to those that show at least a share of the same things."""

    def __init__(self, scene: Scene, least_share: float) -> None:
        """Takes the scene's own covisibility, or computes it."""
        shares = covisibility(scene) if scene.covisible is None else scene.covisible
        self._name, self._least_share = scene.name, least_share
        self._linked = shares >= max(least_share * WHOLE, 1)
        _, group = connected_components(self._linked, directed=False)
        self._reach = np.bincount(group)[group]  # of each frame, how many are linked to it, one by one

    @property
    def most(self) -> int:
        """Frames of the largest sample."""
        return int(self._reach.max())

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:
        """`count` frames in random order, each linked to another one: from a random one on, one after the other, any
        that is linked to one before. BadRecord where there are not so many."""
        starts = np.flatnonzero(self._reach >= count)
        if not len(starts):
            raise BadRecord(
                f"scene {self._name}: at most {self.most} of its {len(self._reach)} frames, which have no order, show "
                f"the same things, to a share of {self._least_share:g}, for {count} views; lower num_views (--views of "
                "a benchmark, --config.sampling.num_views of a run) or covisible, or leave this scene out"
            )
        drawn = np.zeros(len(self._reach), bool)
        drawn[starts[rng.integers(len(starts))]] = True
        for _ in range(count - 1):
            near = np.flatnonzero(self._linked[drawn].any(axis=0) & ~drawn)
            drawn[near[rng.integers(len(near))]] = True
        return rng.permutation(np.flatnonzero(drawn)).tolist()
