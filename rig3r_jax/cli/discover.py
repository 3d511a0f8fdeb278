"""`rig3r discover`: photographs in, the rig that took them out."""

import argparse
import dataclasses
import functools
import typing

from rig3r_jax.cli.command import Command, path

if typing.TYPE_CHECKING:
    from rig3r_jax.formats.calibration import RigCalibration
    from rig3r_jax.inference.inputs import InputOptions, Inputs


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", metavar="IMAGES", nargs="+", help="images, folders, patterns, videos, as of `rig3r reconstruct`"
    )
    parser.add_argument(
        "--model", type=path, required=True, help="demo, which comes with the package, or a workdir of `rig3r train`"
    )
    parser.add_argument("--out", type=path, required=True, help="folder to make")
    parser.add_argument("--times", type=path, help="file of times; or names, exif: equal times are one time step")
    parser.add_argument("--intrinsics", type=path, help="file of intrinsics of the upright originals; or exif")
    parser.add_argument(
        "--rig", type=path, help="calibration of some cameras, as of --check: these places are held, and tell metres"
    )
    parser.add_argument("--camera-count", dest="camera_count", type=int, help="number of cameras, where it is known")
    parser.add_argument(
        "--check", type=path, help="rig_config.json, camchain.yaml or cameras.json: say which camera has moved since"
    )
    parser.add_argument("--false-alarm", dest="false_alarm", type=float, default=0.02, help="of --check (0.02)")
    parser.add_argument("--refine", action="store_true", help="fit places to the poses of all time steps, too")
    parser.add_argument(
        "--flat", action="store_true", help="folders and names of images say nothing of cameras or steps"
    )
    parser.add_argument("--fps", type=float, default=2.0, help="frames per second of videos (2)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th time step, or image (1)")
    parser.add_argument("--scale", type=float, help="metres over the units that the model predicts")
    parser.add_argument("--skip-bad", action="store_true", help="leave images out that cannot be read, and name them")
    parser.add_argument("--unordered", action="store_true", help="photographs whose order says nothing")
    parser.add_argument("--max-views", dest="max_views", type=int, help="images of one pass at most")


def _discover(options: argparse.Namespace) -> int:
    if options.out.exists():
        raise ValueError(f"{options.out}: exists already; give a new folder, or remove it first")
    if options.check and options.rig:
        raise ValueError("--rig holds places that --check doubts; leave one out")
    if (options.check or options.rig) and options.flat:
        name = "--check" if options.check else "--rig"
        raise ValueError(f"{name} wants images in folders of their cameras, which --flat ignores; leave one out")
    from rig3r_jax.formats.atomic import whole_path
    from rig3r_jax.inference.inputs import read_inputs
    from rig3r_jax.inference.known_lenses import read_rig
    from rig3r_jax.inference.models.open import open_model
    from rig3r_jax.inference.options import ReconstructOptions
    from rig3r_jax.inference.plan import plan
    from rig3r_jax.inference.rig import find_rig

    calibration = read_rig(options.check) if options.check else None
    how = ReconstructOptions(unordered=options.unordered, max_views=options.max_views)
    with whole_path(options.out) as out:
        inputs = read_inputs(_inputs(options), out)
        print("\n".join(inputs.notes), flush=True)
        inputs = _flat(inputs) if options.flat else inputs
        inputs = _without_places(inputs, calibration) if calibration else inputs
        model = open_model(options.model)
        planned = plan(model, inputs.image_sizes, how, functools.partial(print, flush=True))
        discovery = find_rig(
            model,
            inputs.folder,
            inputs.photographs,
            inputs.known,
            planned,
            how,
            options.camera_count,
            options.refine,
            print,
        )
        lines = [*discovery.notes, "", discovery.table(), "", *discovery.verdict]
        if calibration:
            check = discovery.check(calibration, options.false_alarm)
            lines += check.verdict({row: camera.name for row, camera in enumerate(calibration.cameras)})
        written = discovery.save(out)
    paths = [str(options.out / file.relative_to(out)) for file in written]
    print("\n".join([*lines, *paths]))
    return 0


def _inputs(options: argparse.Namespace) -> "InputOptions":
    from rig3r_jax.inference.inputs import InputOptions

    fields = {field.name for field in dataclasses.fields(InputOptions)} - {"cameras", "rig"}
    values = {name: value for name, value in vars(options).items() if name in fields}
    return InputOptions(**values, cameras=options.intrinsics, rig=options.check or options.rig)


def _flat(inputs: "Inputs") -> "Inputs":
    """Photographs of no known camera, nor step but by times."""
    photographs = tuple(dataclasses.replace(image, camera=None, step=None) for image in inputs.photographs)
    return dataclasses.replace(inputs, photographs=photographs)


def _without_places(inputs: "Inputs", calibration: "RigCalibration") -> "Inputs":
    """With the calibration's lenses, but not its places, which are to be checked."""
    from rig3r_jax.inference.known_lenses import camera_of

    cameras = {image.name: camera_of(calibration, image) for image in inputs.photographs}
    lenses = {name: camera for name, camera in cameras.items() if camera is not None and camera.lens is not None}
    knowledge = dataclasses.replace(inputs.known, rig=None, lenses={**lenses, **inputs.known.lenses})
    return dataclasses.replace(inputs, known=knowledge)


COMMANDS = {
    "discover": Command("find out the rig that took photographs, or check its calibration", _arguments, _discover),
}
