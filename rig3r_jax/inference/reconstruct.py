"""From photographs and what is known of them to cameras and points, by a trained model."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rig3r_jax.inference.assemble import assembled
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.pass_store import opened_store
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.inference.placement import check_known, place
from rig3r_jax.inference.plan import Plan
from rig3r_jax.inference.result import Reconstruction
from rig3r_jax.inference.shots import lens_notes, read_shots
from rig3r_jax.inference.windowed import WindowOptions, windowed_passes


def reconstruct(
    model: Model,
    folder: Path | None,
    photographs: Sequence[Photograph],
    knowledge: Known,
    planned: Plan,
    options: ReconstructOptions | None = None,
    tell: Callable[[str], None] | None = None,
) -> Reconstruction:
    """Cameras and points of the photographs; the world is that of given poses, else the first photograph's camera.

    Known lenses and poses come out as they went in. With a known rig the cameras of every step sit on it exactly,
    lengths are metres, and what is fitted is one pose of the rig per step. Lengths are in units of the scene where
    nothing tells them. More images than fit one pass go in windows that overlap (`windows`), joined by their cameras
    and the depths of shared images (`placement`).

    Args:
        model: of any family.
        folder: of the photographs, below which their names are files; None where they are none.
        photographs: in the order of the result.
        known: beside the pixels.
        planned: of these photographs, by `plan.plan`.
        options: the choices.
        tell: takes a line for people after every pass.

    Raises:
        ValueError: knowledge that does not fit the images, windows that nothing joins; names image and remedy.
        BadRecord: an image that does not decode.
    """
    options = options or ReconstructOptions()
    shots = read_shots(photographs, knowledge, planned.size, model.fill)
    check_known(shots, knowledge, options.refine)
    windows = WindowOptions(planned.views, ordered=not options.unordered, points=options.points)
    with opened_store(options.cache, model.digest if options.cache else "") as store:
        passes, notes = windowed_passes(model, shots, windows, store, options.wide, tell)
        if tell and len(passes) > 1:
            tell(f"joining {len(passes)} passes ...")
        placement = place(passes, shots, knowledge, options.refine)
        terms = [model.licence] if model.licence else []
        if knowledge.rig is not None and not model.takes_rig:
            terms.append(f"{model.name} takes no rig: its predicted cameras are fitted to the one that is given")
        notes = [*model.notes, *terms, *lens_notes(shots, knowledge), *notes, *placement.notes]
        return Reconstruction.of(assembled(folder, shots, passes, placement, options.points_from), notes)
