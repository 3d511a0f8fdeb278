"""How long the units of passes are, measured beside their cameras: by depths that passes share, by the places of
cameras in a known rig, by given poses."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.geometry.fusion.problem import ScaleLink
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.scale_ratios import scale_ratios

_LEAST_SIGMA = 0.01  # of the logarithm of a scale by the places that a model says of cameras in the rig
# Of one by how far predicted cameras are apart, which errors make larger: it counts where nothing else tells.
_WEAK_SIGMA = 0.7


def depth_links(passes: Sequence[Pass]) -> list[ScaleLink]:
    """Units of passes over one another, by the distances that they give to the same points."""
    return [ScaleLink(*ratio) for ratio in scale_ratios(passes)]


def rig_links(
    passes: Sequence[Pass], rig_from_camera: Float[np.ndarray, "v 4 4"], step: Int[np.ndarray, " v"]
) -> Iterator[ScaleLink]:
    """Units of passes by the known places of cameras in the rig: those that the model says of them where it does, else,
    weakly, how far the cameras of a step are from one another.

    Args:
        passes: over the images.
        rig_from_camera: of every image, metres, in the frame that the model takes for the rig's.
        step: of every image; -1: of no known rig.
    """
    for number, one_pass in enumerate(passes):
        centers, of_pass = rig_from_camera[one_pass.rows, :3, 3], step[one_pass.rows]
        in_rig = of_pass >= 0
        if one_pass.rig_from_camera is not None and in_rig.any():
            predicted, exact = one_pass.rig_from_camera[in_rig, :3, 3], centers[in_rig]
            length, product = np.linalg.norm(exact), float((exact * predicted).sum())
            if length > 0 and product > 0:
                factor = length**2 / product  # the rig's lengths are exact: predictions are regressed on them
                apart = np.linalg.norm(exact - factor * predicted) / length
                sigma = max(_LEAST_SIGMA, apart / np.sqrt(in_rig.sum()))
                yield ScaleLink(None, number, float(np.log(factor)), sigma)
                continue
        yield from _spread_link(one_pass, number, centers, of_pass)


def pose_links(
    passes: Sequence[Pass], world_from_camera: Sequence[Float[np.ndarray, "4 4"] | None]
) -> Iterator[ScaleLink]:
    """Units of passes, weakly, by how far given poses are from one another: where predicted cameras have nothing to do
    with these, the world's lengths would else grow without end, which takes the given ones out of the fit."""
    centers = np.stack([np.zeros(3) if pose is None else pose[:3, 3] for pose in world_from_camera])
    group = np.array([-1 if pose is None else 0 for pose in world_from_camera])
    for number, one_pass in enumerate(passes):
        yield from _spread_link(one_pass, number, centers[one_pass.rows], group[one_pass.rows])


def _spread_link(
    one_pass: Pass, number: int, centers: Float[np.ndarray, "k 3"], group: Int[np.ndarray, " k"]
) -> Iterator[ScaleLink]:
    """The unit of a pass by how far its predicted cameras of each group are apart, and `centers` in the world's unit;
    images of group -1 are in none. Nothing where either are in one place."""
    of_centers, of_predicted = 0.0, 0.0  # sums of squared distances from each group's middle
    for one_group in np.unique(group[group >= 0]):
        of_group = group == one_group
        of_centers += centers[of_group].var(axis=0).sum() * of_group.sum()
        of_predicted += one_pass.world_from_camera[of_group, :3, 3].var(axis=0).sum() * of_group.sum()
    if of_centers > 0 and of_predicted > 0:
        yield ScaleLink(None, number, float(np.log(of_centers / of_predicted) / 2), _WEAK_SIGMA)
