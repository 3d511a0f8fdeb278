"""From photographs and what is known of them to cameras and points, by a trained model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.inference.assemble import assembled, physical_cameras
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.passes import run_pass
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.placement import place
from rig3r_jax.inference.shots import read_shots, sizes_of
from rig3r_jax.schema import Reconstruction


def reconstruct(
    model: Model, folder: Path, photographs: Sequence[Photograph], known: Known, wide: bool = False
) -> Reconstruction:
    """Cameras and points of the photographs in one pass; the world is the first one's camera.

    Known lenses come out as they went in. With a known rig the cameras of every step sit on it exactly, lengths are
    metres, and what is fitted is one pose of the rig per step. Lengths are in units of the scene otherwise.

    Args:
        model: of any family.
        folder: of the photographs, below which their names are files.
        photographs: in the order of the result.
        known: beside the pixels.
        wide: images of no known lens are fisheyes, whose lenses are fitted.

    Raises:
        ValueError: nothing to reconstruct, a rig that does not fit the images; names file and remedy.
        BadRecord: an image that does not decode.
    """
    if not photographs:
        raise ValueError(f"{folder}: there is no image to reconstruct")
    shots = read_shots(photographs, known, model.input_size(sizes_of(photographs)), model.fill)
    cameras = physical_cameras(shots)
    passes = [run_pass(model, shots, np.arange(len(shots)), wide)]
    return assembled(folder, shots, passes, place(passes, shots, cameras), cameras)
