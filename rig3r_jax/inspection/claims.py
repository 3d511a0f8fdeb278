"""What a data set claims of its images, and which of them are worth comparing."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.data.frame_bytes import OUTSIDE, decode_depth, decode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import DenseDepth, Frame, Scene, SparseDepth
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens

_NEIGHBOURS = 4  # steps that one image is compared over, at most


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """Where and when one image is claimed to be taken."""

    camera: int  # number in its scene
    step: int
    time: float  # seconds
    source_from_camera: Float[np.ndarray, "4 4"]  # in the world of the data set's files
    body_from_camera: Float[np.ndarray, "4 4"]  # by the rig's calibration, in the frame whose poses the files hold


@dataclasses.dataclass(frozen=True, eq=False)
class Shot(Placed):
    """One image and what is claimed of it."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB
    on_scene: Bool[np.ndarray, "h w"] | None  # pixels that show the scene, not the vehicle itself; None: all
    lens: Lens
    depth: DenseDepth | SparseDepth

    @functools.cached_property
    def depths(self) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Pixels whose depth is known and their distances along the rays, metres, float64."""
        return self.depth.known()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that may show the same things: numbers of shots."""

    a: int
    b: int
    along_time: bool  # of one camera; else of two cameras at one step


@dataclasses.dataclass(frozen=True, eq=False)
class Claims:
    """Some images of one scene, all that is claimed of them, and the pairs to compare."""

    scene: str
    cameras: tuple[str, ...]
    shots: tuple[Shot, ...]
    pairs: tuple[Pair, ...]

    def b_from_a(self, pair: Pair) -> Float[np.ndarray, "4 4"]:
        """Where the second camera of a pair sees what the first one sees."""
        return rigid.invert(self.shots[pair.b].source_from_camera) @ self.shots[pair.a].source_from_camera

    def name(self, pair: Pair) -> str:
        """A pair in words."""
        a, b = self.shots[pair.a], self.shots[pair.b]
        if pair.along_time:
            return f"{self.cameras[a.camera]}, steps {a.step} and {b.step}"
        return f"{self.cameras[a.camera]} and {self.cameras[b.camera]}, step {a.step}"


def read_claims(scene: Scene, steps: int = 4) -> Claims:
    """Claims of about `steps` time steps spread over a scene, and of the step after each; images are decoded.

    Every pair of cameras of a step is compared, whether or not the calibration says that they overlap: what says so may
    be wrong. BadRecord where an image, its depth or its mask does not decode.
    """
    order = {step: place for place, step in enumerate(sorted({frame.step for frame in scene.frames}))}
    chosen = _chosen_steps(list(order), steps)
    frames = [frame for frame in scene.frames if frame.step in chosen]
    shots = [
        Shot(
            **vars(placed(scene, frame)),
            image=decode_image(frame.image),
            on_scene=(decode_mask(frame.mask) & OUTSIDE) == 0 if frame.mask else None,
            lens=scene.cameras[frame.camera].lens,
            depth=decode_depth(frame.depth),
        )
        for frame in frames
    ]
    return Claims(scene.name, tuple(camera.name for camera in scene.cameras), tuple(shots), tuple(_pairs(shots, order)))


def placed(scene: Scene, frame: Frame) -> Placed:
    """What a scene claims of a frame but its image."""
    return Placed(
        camera=frame.camera,
        step=frame.step,
        time=frame.time,
        source_from_camera=scene.source_from_world @ frame.world_from_camera,
        body_from_camera=scene.body_from_rig @ scene.cameras[frame.camera].rig_from_camera,
    )


def _chosen_steps(steps: Sequence[int], count: int) -> set[int]:
    """Steps spread over a scene in couples whose distance doubles: the motion between two steps is not known yet."""
    starts = np.unique(np.linspace(0, max(len(steps) - 2, 0), max(1, count // 2)).astype(int))
    gaps = itertools.cycle([1, 2, _NEIGHBOURS])
    return {
        steps[min(start + gap, len(steps) - 1)] for start, far in zip(starts, gaps, strict=False) for gap in (0, far)
    }


def _pairs(shots: Sequence[Shot], order: Mapping[int, int]) -> list[Pair]:
    """Of neighbouring steps of one camera, and of the cameras of one step; `order` are places of steps in the scene,
    whose numbers may have gaps."""
    pairs = []
    for a, b in itertools.combinations(range(len(shots)), 2):
        if shots[a].step == shots[b].step:
            pairs.append(Pair(a, b, along_time=False))
        elif shots[a].camera == shots[b].camera and abs(order[shots[a].step] - order[shots[b].step]) <= _NEIGHBOURS:
            pairs.append(Pair(a, b, along_time=True))
    return pairs
