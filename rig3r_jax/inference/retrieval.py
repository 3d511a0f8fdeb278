"""Photographs without an order, in windows of images that look alike."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rig3r_jax.inference.shots import Shot

Describe = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]

_AT_ONCE = 64  # images that are described together
_LONELY = 3.0  # spreads below the usual likeness of an image and the one most like it


def descriptors_of(describe: Describe, shots: Sequence[Shot]) -> Float[np.ndarray, "n d"]:
    """Of all photographs, by a model's `describe`."""
    groups = [shots[start : start + _AT_ONCE] for start in range(0, len(shots), _AT_ONCE)]
    return np.concatenate([describe(np.stack([shot.seen for shot in group])) for group in groups])


def similarities(descriptors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Cosines between unit descriptors less their mean, float32: what all images have in common tells none of them.

    ValueError for descriptors that are not of length 1.
    """
    lengths = np.linalg.norm(descriptors, axis=-1)
    if not np.allclose(lengths, 1.0, atol=1e-3):
        row = int(np.argmax(~np.isclose(lengths, 1.0, atol=1e-3)))
        raise ValueError(f"the descriptor of image {row} has length {lengths[row]:g}; descriptors must be unit vectors")
    own = descriptors.astype(np.float32) - descriptors.mean(axis=0, dtype=np.float32)
    own /= np.maximum(np.linalg.norm(own, axis=-1, keepdims=True), 1e-6)
    return own @ own.T


def spread(values: Float[np.ndarray, " n"]) -> float:
    """Standard deviation of Gaussian values of which some are not: 1.4826 times the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def lonely_images(similarity: Float[np.ndarray, "n n"]) -> tuple[int, ...]:
    """Images that are like no other, judged by how like the others are to theirs."""
    best = _without_self(similarity).max(axis=1)
    return tuple(np.flatnonzero(best < np.median(best) - _LONELY * max(spread(best), 1e-3)).tolist())


def retrieval_windows(similarity: Float[np.ndarray, "n n"], size: int, shared: int) -> list[Int[np.ndarray, " k"]]:
    """Windows of `size` images that hold all of n > size; each shares `shared` images with one before it.

    The first grows from the image that has most of its like, always by the image that is most like one in it: Prim's
    way along the maximum spanning tree, as long as one in it is among the `shared` that are most like the new image.
    Each other window begins at the image that was in none and is most like one that was, with those of that one's
    window that are most like it, and grows likewise. Where nothing new belongs, images of windows before fill it: it
    has its size, and ties these together.
    """
    alike = _without_self(similarity)
    akin = alike >= np.partition(alike, -shared, axis=1)[:, -shared, None]
    seed = int(np.argmax(np.partition(alike, -(size - 1), axis=1)[:, -(size - 1) :].mean(axis=1)))
    inside, nearest = np.zeros(len(alike), bool), np.full(len(alike), -np.inf)  # and the likeness to those inside
    window_of = np.zeros(len(alike), np.int64)  # the first of each image
    windows: list[np.ndarray] = []
    kept = np.zeros(0, np.int64)
    while True:
        window, fresh = _grown(alike, akin, seed, kept, inside, size)
        window_of[fresh] = len(windows)
        windows.append(np.sort(window))
        inside[fresh] = True
        nearest = np.maximum(nearest, alike[fresh].max(axis=0))
        if inside.all():
            return windows
        seed = int(np.argmax(np.where(inside, -np.inf, nearest)))
        like = int(np.argmax(np.where(inside, alike[seed], -np.inf)))
        before = windows[window_of[like]]
        kept = before[np.argsort(-alike[seed, before], kind="stable")[:shared]]


def _grown(
    alike: Float[np.ndarray, "n n"],
    akin: Bool[np.ndarray, "n n"],
    seed: int,
    kept: Int[np.ndarray, " s"],
    inside: Bool[np.ndarray, " n"],
    size: int,
) -> tuple[Int[np.ndarray, " size"], Int[np.ndarray, " f"]]:
    """A window of the images kept and of others from `seed` on, and those of it that were in none before.

    `akin`: whether the second is among those most like the first.
    """
    free = ~inside
    free[seed] = False
    members = [*kept.tolist(), seed]
    fresh, reach, belongs = [seed], alike[members].max(axis=0), akin[:, members].any(axis=1)
    while len(kept) + len(fresh) < size:
        fitting = free & belongs
        if not fitting.any():
            if inside.any():
                break
            fitting = free  # the first window has nothing else to be filled with
        image = int(np.argmax(np.where(fitting, reach, -np.inf)))
        free[image] = False
        fresh.append(image)
        reach, belongs = np.maximum(reach, alike[image]), belongs | akin[:, image]
    others = inside.copy()
    others[kept] = False
    rest = np.flatnonzero(others)
    filling = rest[np.argsort(-reach[rest], kind="stable")[: size - len(kept) - len(fresh)]]
    return np.concatenate([kept, fresh, filling]).astype(np.int64), np.array(fresh)


def _without_self(similarity: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    alike = similarity.copy()
    np.fill_diagonal(alike, -np.inf)
    return alike
