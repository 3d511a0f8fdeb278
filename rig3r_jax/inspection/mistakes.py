"""The usual mistakes in reading a data set, each as the change of its claims that would undo it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown, Fisheye, Lens, Pinhole
from rig3r_jax.inspection.claims import Claims, Shot

Matrix = Float[np.ndarray, "4 4"]
Change = Callable[[Matrix], Matrix]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """What was done wrong, in words, and the claims as they are without it."""

    words: str
    undone: Claims


# Axes of a camera, as columns in ours (right, down, forward): x, y and z of theirs.
_AXES = {
    "OpenGL's (x right, y up, z backward)": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "a vehicle's (x forward, y left, z up)": ((0, 0, 1), (-1, 0, 0), (0, -1, 0)),
    "an aircraft's (x forward, y right, z down)": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
}
_FOCAL_FACTORS = (0.25, 0.5, 2.0, 4.0)  # sizes that images are stored in beside the calibrated one


def usual_mistakes(claims: Claims) -> Iterator[Mistake]:
    """Every mistake that would change what these claims say of their images."""
    yield from _pose_mistakes(claims)
    yield from _rig_mistakes(claims)
    yield from _lens_mistakes(claims)
    yield from _swapped_cameras(claims)


def _pose_mistakes(claims: Claims) -> Iterator[Mistake]:
    for words, change in _misreadings("poses look", "camera_from_world", "world_from_camera", "camera"):
        yield Mistake(words, _with_poses(claims, change))


def _rig_mistakes(claims: Claims) -> Iterator[Mistake]:
    """Those of files that hold poses of a body, and where the cameras sit in it."""
    if all(np.allclose(shot.body_from_camera, np.eye(4)) for shot in claims.shots):
        return  # the body is the camera
    for words, change in _misreadings("poses of the rig look", "rig_from_world", "world_from_rig", "the rig's"):
        yield Mistake(words, with_body_poses(claims, change))
    for words, change in _misreadings("places on the rig look", "camera_from_rig", "rig_from_camera", "the places'"):
        yield Mistake(words, with_places(claims, change))


def _misreadings(what: str, inverse: str, right: str, whose: str) -> Iterator[tuple[str, Change]]:
    """Ways to read transforms wrongly, in words, and the change of one that undoes each."""
    yield f"{what} like {inverse} read as {right}", rigid.invert
    for name, columns in _AXES.items():
        theirs = np.eye(4)
        theirs[:3, :3] = np.array(columns).T
        back = rigid.invert(theirs)
        yield f"{whose} axes look like {name} read as OpenCV's", lambda pose, back=back: pose @ back
    of = "quaternions look" if whose == "camera" else f"{whose} quaternions look"
    yield f"{of} like w x y z read as x y z w", lambda pose: _requaternioned(pose, (1, 2, 3, 0))
    yield f"{of} like x y z w read as w x y z", lambda pose: _requaternioned(pose, (3, 0, 1, 2))
    of = "rotations look" if whose == "camera" else f"{whose} rotations look"
    yield f"{of} inverted, positions right", _transposed


def _requaternioned(pose: Matrix, order: tuple[int, ...]) -> Matrix:
    """The pose whose quaternion (x y z w) has these entries of the claimed one."""
    quaternion = rigid.quat_xyzw_from_rotation(pose[:3, :3])[list(order)]
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(quaternion), pose[:3, 3])


def _transposed(pose: Matrix) -> Matrix:
    return rigid.from_rotation_translation(pose[:3, :3].T, pose[:3, 3])


def _lens_mistakes(claims: Claims) -> Iterator[Mistake]:
    lenses = [shot.lens for shot in claims.shots]

    def each(words: str, change: Callable[[Lens], Lens]) -> Mistake:
        return Mistake(words, with_lenses(claims, change))

    if any(isinstance(lens, Brown) for lens in lenses):
        yield each(
            "the lens looks like a fisheye (Kannala-Brandt), its coefficients read as Brown-Conrady's",
            lambda lens: Fisheye(lens.intrinsics, lens.distortion[:4]) if isinstance(lens, Brown) else lens,
        )
    if any(isinstance(lens, Fisheye) for lens in lenses):
        yield each(
            "the lens looks like Brown-Conrady's, its coefficients read as a fisheye's (Kannala-Brandt)",
            lambda lens: Brown(lens.intrinsics, np.append(lens.distortion, 0.0)) if isinstance(lens, Fisheye) else lens,
        )
    if not all(isinstance(lens, Pinhole) for lens in lenses):
        yield each(
            "images look undistorted already: the lens's coefficients do not belong to them",
            lambda lens: Pinhole(lens.intrinsics),
        )
    for factor in _FOCAL_FACTORS:
        yield each(
            f"intrinsics look like those of images {1 / factor:g} times as wide",
            lambda lens, f=factor: lens.resize(f, f),
        )


def _swapped_cameras(claims: Claims) -> Iterator[Mistake]:
    """Images of two cameras exchanged."""
    for i, j in itertools.combinations(sorted({shot.camera for shot in claims.shots}), 2):
        of_step = {(shot.step, shot.camera): shot for shot in claims.shots}
        other = {i: j, j: i}

        def exchanged(shot: Shot, of_step=of_step, other=other) -> Shot:
            partner = of_step.get((shot.step, other.get(shot.camera, -1)))
            if partner is None:
                return shot
            return dataclasses.replace(
                shot,
                lens=partner.lens,
                source_from_camera=partner.source_from_camera,
                body_from_camera=partner.body_from_camera,
            )

        words = f"images of {claims.cameras[i]} and {claims.cameras[j]} look exchanged"
        yield Mistake(words, dataclasses.replace(claims, shots=tuple(map(exchanged, claims.shots))))


def _with_poses(claims: Claims, change: Change) -> Claims:
    return with_shots(claims, lambda shot: {"source_from_camera": change(shot.source_from_camera)})


def with_body_poses(claims: Claims, change: Change) -> Claims:
    """The claims with the poses of the body changed, in which the cameras stay where they are."""

    def changed(shot: Shot) -> dict[str, Matrix]:
        source_from_body = shot.source_from_camera @ rigid.invert(shot.body_from_camera)
        return {"source_from_camera": change(source_from_body) @ shot.body_from_camera}

    return with_shots(claims, changed)


def with_places(claims: Claims, change: Change) -> Claims:
    """The claims with the cameras' places in the body changed, whose poses stay."""

    def changed(shot: Shot) -> dict[str, Matrix]:
        source_from_body = shot.source_from_camera @ rigid.invert(shot.body_from_camera)
        place = change(shot.body_from_camera)
        return {"source_from_camera": source_from_body @ place, "body_from_camera": place}

    return with_shots(claims, changed)


def with_lenses(claims: Claims, change: Callable[[Lens], Lens]) -> Claims:
    """The claims with every lens changed."""
    return with_shots(claims, lambda shot: {"lens": change(shot.lens)})


def with_shots(claims: Claims, change: Callable[[Shot], dict[str, Any]]) -> Claims:
    """The claims with some fields of every shot changed."""
    shots = (dataclasses.replace(shot, **change(shot)) for shot in claims.shots)
    return dataclasses.replace(claims, shots=tuple(shots))
