"""Scenes that two splits share, by their names and by their first images."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import Scene
from rig3r_jax.inspection.findings import Finding

_SAME_BITS = 4  # of 64 that two images of different scenes may differ by and still be taken as one
_SAME_TIME = 1e-3  # seconds between two such images that are one


def repeated_names(names: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Scenes that two splits have under one name."""
    for a, b in itertools.combinations(names, 2):
        if shared := sorted(names[a] & names[b]):
            words = f"{', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}: scores on {b} are none of new scenes"
            yield Finding(f"{a} and {b}", "scenes in both splits", float(len(shared)), "", "none", True, words)


@dataclasses.dataclass(frozen=True)
class FirstImage:
    """What tells a scene's first image again."""

    image: bytes
    time: float
    bits: int  # 64 that survive another encoding: which of 8 x 8 blocks are brighter than their right neighbour

    @staticmethod
    def of(scene: Scene) -> "FirstImage":
        """That of a scene's first frame."""
        frame = scene.frames[0]
        grey = cv2.cvtColor(decode_image(frame.image), cv2.COLOR_RGB2GRAY)
        blocks = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
        bits = int.from_bytes(np.packbits(blocks[:, 1:] > blocks[:, :-1]).tobytes(), "big")
        return FirstImage(frame.image, frame.time, bits)


def repeated_images(firsts: Mapping[tuple[str, str], FirstImage]) -> Iterator[Finding]:
    """Scenes of two splits that begin alike: with one image, a fault; or at other times, as where the rig stands."""
    for ((split, name), a), ((other, other_name), b) in itertools.combinations(firsts.items(), 2):
        if split == other or name == other_name or (a.bits ^ b.bits).bit_count() > _SAME_BITS:
            continue
        # Many recordings begin at time 0: that two do says nothing.
        same = a.image == b.image or (abs(a.time - b.time) < _SAME_TIME and abs(a.time) > _SAME_TIME)
        alike = "with the same image" if same else f"alike, {abs(a.time - b.time):.3g} s apart: the rig stands there?"
        words = f"{split}/{name} and {other}/{other_name} begin {alike}"
        yield Finding(f"{split} and {other}", "images in both splits", 1.0, "", "none", same, words)
