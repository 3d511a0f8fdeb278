"""One set of cameras from what passes say and what is known: rigs and poses that are given are held."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from rig3r_jax.geometry.fusion.fuse import Fused, FuseOptions, fuse
from rig3r_jax.geometry.fusion.problem import Constraints, WindowPoses
from rig3r_jax.inference.known import SCENE, Known
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.scale_links import depth_links, pose_links, rig_links
from rig3r_jax.inference.shots import Shot
from rig3r_jax.schema import Scale

_SOURCES = {"given scale": "given", "given poses": "given poses", "rig baselines": "rig baselines", "none": "none"}
_OUTVOTED = 0.1  # weight below which a view is named
_NAMED = 5  # views of a note
_SCENE_SIGMA = 0.02  # of given poses in units of a scene, over the root mean square of their distance from the middle


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where all images were taken from, in one world and unit."""

    world_from_camera: Float[np.ndarray, "v 4 4"]
    pose_sources: tuple[str, ...]  # of NUMBER_SOURCES
    covariance: Float[np.ndarray, "v 6 6"] | None
    factors: Float[np.ndarray, " p"]  # of each pass: lengths of the world over those of its estimate
    scale: Scale
    frame: str  # the world, in words
    notes: tuple[str, ...]  # views that the others outvote


def place(passes: Sequence[Pass], shots: Sequence[Shot], knowledge: Known, refine: bool = False) -> Placement:
    """Poses of all images: those that fit what every pass says of them best (`geometry.fusion`).

    Given poses and the cameras' places in a known rig hold exactly, unless given poses may be `refine`d.
    ValueError for passes that nothing joins. What is known is as `check_known` wants it.
    """
    steps, has_pose = _steps(shots), np.array([shot.world_from_camera is not None for shot in shots])
    windows = [
        WindowPoses(
            one_pass.rows,
            one_pass.world_from_camera,
            one_pass.joining_covariance,
            knowledge.scale if number == 0 else None,
        )
        for number, one_pass in enumerate(passes)
    ]
    front_from_camera = _stack([shot.front_from_camera for shot in shots])
    of_rig = list(rig_links(passes, front_from_camera, steps))
    of_poses = pose_links(passes, [shot.world_from_camera for shot in shots])
    constraints = Constraints(
        image_count=len(shots),
        step=steps,
        rig_from_camera=front_from_camera,
        world_from_camera=_stack([shot.world_from_camera for shot in shots]),
        has_pose=has_pose,
        held=not refine,
        **_pose_errors(shots, knowledge),
        scale_links=[*depth_links(passes), *of_rig, *of_poses],
    )
    fused = fuse(windows, constraints, FuseOptions())
    source = _SOURCES[fused.scale_source]
    if source == "given" and knowledge.scale is None and of_rig:
        source = "rig baselines"
    if knowledge.pose_unit == SCENE and source == "given poses":
        source = "none"
    return Placement(
        world_from_camera=fused.world_from_camera,
        pose_sources=_pose_sources(len(passes), steps, has_pose, refine),
        covariance=fused.covariance,
        factors=fused.scale,
        scale=Scale(float(fused.scale[0]), source),
        frame="OpenCV axes, world of the given poses"
        if has_pose.any()
        else "OpenCV axes, world = first image's camera",
        notes=tuple(_outvoted(passes, shots, fused)),
    )


def check_known(shots: Sequence[Shot], knowledge: Known, refine: bool) -> None:
    """ValueError for knowledge that contradicts itself, and where poses may be refined and none is given."""
    has_pose = any(shot.world_from_camera is not None for shot in shots)
    if refine and not has_pose:
        raise ValueError("refine lets given poses move, and none is given; give poses, or leave it out")
    if knowledge.pose_unit != SCENE or not has_pose:
        return
    if knowledge.scale is not None:
        raise ValueError(
            "the scale is in metres, the poses are in units of the scene; give poses in metres, or leave the scale out"
        )
    if (_steps(shots) >= 0).any():
        raise ValueError(
            "the rig is in metres, the poses are in units of the scene; give poses in metres, or leave the rig out"
        )


def camera_numbers(shots: Sequence[Shot]) -> list[int | None]:
    """The number of each image's physical camera; None of no known camera."""
    names = [shot.photograph.camera for shot in shots]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return [numbers.get(name) for name in names]


def _steps(shots: Sequence[Shot]) -> Int[np.ndarray, " v"]:
    """The rig's step of every image; -1 of those whose place in the rig or step is not known."""
    in_rig = [shot.front_from_camera is not None and shot.photograph.step is not None for shot in shots]
    return np.array([shot.photograph.step if is_in else -1 for shot, is_in in zip(shots, in_rig, strict=True)])


def _pose_errors(shots: Sequence[Shot], knowledge: Known) -> dict[str, float]:
    """What given poses may err by where they may move: in metres the usual, of a scene a share of its size."""
    centers = [shot.world_from_camera[:3, 3] for shot in shots if shot.world_from_camera is not None]
    size = float(np.sqrt(np.var(centers, axis=0).sum())) if len(centers) > 1 else 0.0
    return {"sigma_m": _SCENE_SIGMA * size} if knowledge.pose_unit == SCENE and size > 0 else {}


def _stack(poses: Sequence[Float[np.ndarray, "4 4"] | None]) -> Float[np.ndarray, "v 4 4"]:
    return np.stack([np.eye(4) if pose is None else pose for pose in poses])


def _pose_sources(
    pass_count: int, steps: Int[np.ndarray, " v"], has_pose: Bool[np.ndarray, " v"], refine: bool
) -> tuple[str, ...]:
    fitted = (steps >= 0) | has_pose.any() | (pass_count > 1)
    return tuple(
        "given" if is_given and not refine else "fitted" if is_fitted else "predicted"
        for is_given, is_fitted in zip(has_pose.tolist(), fitted.tolist(), strict=True)
    )


def _outvoted(passes: Sequence[Pass], shots: Sequence[Shot], fused: Fused) -> list[str]:
    """A sentence on all of them, where there are any."""
    places = [
        shots[row].photograph.name + (f" (pass {number})" if len(passes) > 1 else "")
        for number, (one_pass, weights) in enumerate(zip(passes, fused.weights, strict=True), start=1)
        for row in one_pass.rows[weights < _OUTVOTED].tolist()
    ]
    if not places:
        return []
    count = sum(len(one_pass.rows) for one_pass in passes)
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    named = ", ".join(places[:_NAMED])
    return [f"{len(places)} of {count} predicted cameras do not fit the others and count little: {named}{more}"]
