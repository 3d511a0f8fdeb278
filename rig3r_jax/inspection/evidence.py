"""Matched pixels of the pairs of a scene, and how well claims explain them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.inspection.claims import Claims, Pair
from rig3r_jax.inspection.matches import consensus, features, mutual_matches
from rig3r_jax.inspection.residuals import arc_angles

FEWEST = 20  # matches of a pair that is judged
_SHARE = 0.5  # of the matches that one motion must explain: images of different places match by accident
_BEYOND_ACCIDENT = 1.6  # times as many matches must agree as would if they were wrong
_WORST = 10.0  # degrees that one pair counts at most: wrong is wrong


@dataclasses.dataclass(frozen=True, eq=False)
class Matched:
    """A pair of images and the pixels that show the same points."""

    pair: Pair
    pixels_a: Float[np.ndarray, "n 2"]
    pixels_b: Float[np.ndarray, "n 2"]


def match_pairs(claims: Claims) -> list[Matched]:
    """The pairs with enough matches. Images of one claim are compared as they are; poses count for nothing."""
    of_shots = [features(shot.image, shot.on_scene) for shot in claims.shots]
    matched = []
    for pair in claims.pairs:
        pixels_a, pixels_b = mutual_matches(of_shots[pair.a], of_shots[pair.b])
        if len(pixels_a) >= FEWEST:
            rays_a = claims.shots[pair.a].lens.rays(pixels_a)
            rays_b = claims.shots[pair.b].lens.rays(pixels_b)
            kept = consensus(rays_a, rays_b)
            if kept.sum() >= max(FEWEST, _SHARE * len(kept)) and not by_accident(kept, rays_a, rays_b):
                matched.append(Matched(pair, pixels_a[kept], pixels_b[kept]))
    return matched


def by_accident(kept: np.ndarray, rays_a: np.ndarray, rays_b: np.ndarray) -> bool:
    """Whether wrong matches, made of these by exchanging partners, would agree nearly as well: where all that an image
    has lies along its horizon, a motion along it explains anything."""
    exchanged = consensus(rays_a, np.roll(rays_b, len(rays_b) // 2, axis=0))
    return bool(kept.sum() < _BEYOND_ACCIDENT * exchanged.sum())


def angles(claims: Claims, matched: Matched) -> Float[np.ndarray, " n"]:
    """Degrees of the matches of a pair from where the claims allow them."""
    a, b = claims.shots[matched.pair.a], claims.shots[matched.pair.b]
    return arc_angles(a.lens.rays(matched.pixels_a), b.lens.rays(matched.pixels_b), claims.b_from_a(matched.pair))


def cost(claims: Claims, matched: Sequence[Matched]) -> float:
    """Degrees: the mean over the pairs of their medians, of which each counts ten at most; NaN without pairs."""
    if not matched:
        return float("nan")
    return float(np.mean([min(np.median(angles(claims, one)), _WORST) for one in matched]))
