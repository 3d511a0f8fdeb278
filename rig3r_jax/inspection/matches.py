"""Pixels that show the same point in two images: SIFT, mutual nearest neighbours, one common epipolar geometry."""

import functools
import typing

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

_LARGEST = 1024  # pixels of the longer side that features are looked for in
_FEATURES = 2000
_RATIO = 0.8  # Lowe 2004
_TRIALS, _SAMPLE = 400, 8
_CONSENSUS = np.radians(0.5)  # from the plane that a common motion predicts


class Features(typing.NamedTuple):
    """What SIFT finds in one image."""

    positions: np.ndarray  # (n, 2) float64 pixels, centres at +0.5
    descriptors: np.ndarray  # (n, 128) float32, of length 1


def features(image: UInt8[np.ndarray, "h w 3"], on_scene: Bool[np.ndarray, "h w"] | None = None) -> Features:
    """SIFT features of an image, at most a few thousand; none where it shows no part of the scene."""
    scale = min(1.0, _LARGEST / max(image.shape[:2]))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    allowed = None
    if on_scene is not None:  # a pixel of the smaller image counts where its centre does
        allowed = cv2.resize(on_scene.astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    keypoints, descriptors = _sift().detectAndCompute(grey, allowed)
    steps = np.array(image.shape[1::-1]) / np.array(grey.shape[::-1])
    positions = np.array([keypoint.pt for keypoint in keypoints], np.float64).reshape(-1, 2)
    if descriptors is None:
        return Features(positions, np.zeros((0, 128), np.float32))
    lengths = np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)
    return Features((positions + 0.5) * steps, descriptors / lengths)


@functools.cache
def _sift() -> cv2.SIFT:
    # Without precise upscaling all positions are off by a quarter of a pixel.
    return cv2.SIFT_create(nfeatures=_FEATURES, contrastThreshold=0.02, enable_precise_upscale=True)


def mutual_matches(a: Features, b: Features) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Positions of the features that are each other's nearest, and much nearer than the second.

    All distances come of one product of matrices: descriptors are unit vectors, whose products fall with distance.
    """
    if min(len(a.descriptors), len(b.descriptors)) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    alike = a.descriptors @ b.descriptors.T
    rows = np.arange(len(alike))
    nearest, of_b = alike.argmax(axis=1), alike.argmax(axis=0)
    first = alike[rows, nearest]
    alike[rows, nearest] = -1.0
    second = alike.max(axis=1)
    kept = (1 - first < _RATIO**2 * (1 - second)) & (of_b[nearest] == rows)
    return a.positions[kept], b.positions[nearest[kept]]


def consensus(rays_a: Float[np.ndarray, "n 3"], rays_b: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """The matches that one essential matrix explains within half a degree: most of those that are no accident.

    The eight-point method on unit rays (Longuet-Higgins 1981) in random samples; nothing of the claimed poses counts.
    """
    count = len(rays_a)
    if count < 2 * _SAMPLE:
        return np.zeros(count, bool)
    rng = np.random.default_rng(0)
    samples = np.argsort(rng.random((_TRIALS, count)), axis=1)[:, :_SAMPLE]
    products = np.einsum("tni,tnj->tnij", rays_b[samples], rays_a[samples]).reshape(_TRIALS, _SAMPLE, 9)
    essential = np.linalg.svd(products)[2][:, -1].reshape(_TRIALS, 3, 3)
    inside = _plane_angles(essential, rays_a, rays_b) < _CONSENSUS
    best = inside[np.argmax(inside.sum(axis=1))]
    rows = np.einsum("ni,nj->nij", rays_b[best], rays_a[best]).reshape(-1, 9)
    refined = np.linalg.svd(rows, full_matrices=False)[2][-1].reshape(1, 3, 3)
    again = _plane_angles(refined, rays_a, rays_b)[0] < _CONSENSUS
    return again if again.sum() >= best.sum() else best


def _plane_angles(essential: np.ndarray, rays_a: np.ndarray, rays_b: np.ndarray) -> np.ndarray:
    """Angles of the second rays from the epipolar planes of the first, (t n)."""
    normals = np.einsum("tij,nj->tni", essential, rays_a)
    lengths = np.maximum(np.linalg.norm(normals, axis=-1), 1e-12)
    return np.abs(np.arcsin(np.clip(np.einsum("tni,ni->tn", normals, rays_b) / lengths, -1, 1)))
