"""What predictions say of a rig, and what they do not, in sentences for people."""

import typing

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid

if typing.TYPE_CHECKING:
    from rig3r_jax.geometry.rig_discovery import DiscoveredRig

_CONFUSED = 0.05  # of images of one camera that look like another's: told apart by the number of images, not by each
_DOUBT = 0.05  # probability of another number of cameras that is worth a sentence
_SURE = 0.9  # probability of an image's camera below which it is named as doubtful


def verdict(rig: "DiscoveredRig", confusion: Float[np.ndarray, "k k"], unit: str) -> tuple[str, ...]:
    """Sentences: the count and its certainty, pairs that cannot be told apart, images in doubt, images left out."""
    count, images = len(rig.rig_from_camera), int(np.sum(rig.camera >= 0))
    spread = f"{_length(rig.sigma_length, unit)} and {rig.sigma_deg:.2g} degrees spread"
    words = [f"{images} {_plural('image', images)} of {count} {_plural('camera', count)}, {_percent(rig)} sure"]
    if np.isfinite(rig.sigma_length):
        words[0] += f", at {spread} of predictions along and about an axis"
    else:
        words.append("no camera took two of the images: how far predictions scatter is not known; add time steps")
    others = {k: p for k, p in rig.count_probability.items() if k != count and p >= _DOUBT}
    if others:
        either = " or ".join(f"{k} ({100 * p:.0f}%)" for k, p in sorted(others.items()))
        words.append(f"the images do not say for certain how many cameras there are, it may be {either}: add steps")
    for i, j in np.argwhere(np.triu(confusion > _CONFUSED)).tolist():
        words.append(f"cameras {i} and {j} cannot be told apart by one image: {_apart(rig, i, j, unit)} at {spread}")
    doubtful = int(np.sum((rig.image_certainty < _SURE) & (rig.camera >= 0)))
    if doubtful:
        words.append(f"{doubtful} {_plural('image', doubtful)} under {100 * _SURE:.0f}% sure of the camera")
    single = [k for k in range(count) if np.sum(rig.camera == k) == 1]
    if single and np.isfinite(rig.sigma_length):
        named = ", ".join(map(str, single))
        words.append(
            f"{_plural('camera', len(single))} {named} took one image: perhaps a wrong prediction of another's"
        )
    if held := np.flatnonzero(rig.calibrated).tolist():
        words.append(
            f"{_plural('camera', len(held))} {', '.join(map(str, held))} held where the calibration has "
            f"{'them' if len(held) > 1 else 'it'}"
        )
    if left := int(np.sum(rig.camera < 0)):
        words.append(f"{left} {_plural('image', left)} without a finite prediction left out")
    return tuple(words)


def _apart(rig: "DiscoveredRig", i: int, j: int, unit: str) -> str:
    one_from_other = rigid.invert(rig.rig_from_camera[i]) @ rig.rig_from_camera[j]
    degrees = np.degrees(np.linalg.norm(Rotation.from_matrix(one_from_other[:3, :3]).as_rotvec()))
    return f"{_length(np.linalg.norm(one_from_other[:3, 3]), unit)} and {degrees:.2g} degrees"


def _percent(rig: "DiscoveredRig") -> str:
    percent = 100 * rig.count_certainty
    return "over 99.9%" if percent > 99.9 else f"{percent:.3g}%"


def _length(value: float, unit: str) -> str:
    return f"{value:.2g}{unit and ' '}{unit}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
