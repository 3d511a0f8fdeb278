"""`rig3r reconstruct`: photographs in, cameras and points out."""

import argparse
import dataclasses
import shlex
import shutil
import typing
from pathlib import Path

from rig3r_jax.cli.command import Command, path

if typing.TYPE_CHECKING:
    from rig3r_jax.exports.export import ExportReport
    from rig3r_jax.exports.options import ExportOptions
    from rig3r_jax.inference.inputs import InputOptions
    from rig3r_jax.inference.options import ReconstructOptions
    from rig3r_jax.inference.result import Reconstruction


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="a folder of images, or of a rig's (images/<camera>/<name>, equal names: one time step); files; patterns; "
        "videos; with --source the root of a data set, then its options key=value",
    )
    parser.add_argument(
        "--model",
        type=path,
        required=True,
        help="demo, which comes with the package; a workdir of `rig3r train`, or a file of weights (docs/models.md)",
    )
    parser.add_argument("--out", type=path, required=True, help="folder to make")
    _input_arguments(parser.add_argument_group("the images"))
    _known_arguments(
        parser.add_argument_group("what is known: each of any of the images, and held (docs/reconstruct.md)")
    )
    _pass_arguments(parser.add_argument_group("how"))
    _export_arguments(parser.add_argument_group("what is written (docs/outputs.md)"))


def _input_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th time step, or image (1)")
    group.add_argument("--fps", type=_fps, default=2.0, metavar="N", help="frames per second of videos (2); or all")
    group.add_argument(
        "--source", default="", metavar="KIND", help="kind of the data set whose root INPUT is, as of build-data"
    )
    group.add_argument("--scene", default="", metavar="NAME", help="of the data set, where it has several")
    group.add_argument("--skip-bad", action="store_true", help="leave images out that cannot be read, and name them")
    group.add_argument("--unordered", action="store_true", help="photographs whose order says nothing")


def _known_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--rig", type=path, metavar="FILE", help="COLMAP's rig_config.json, Kalibr's camchain.yaml, or a cameras.json"
    )
    group.add_argument(
        "--cameras", type=path, metavar="FILE", help="file of intrinsics of the upright originals; or exif"
    )
    group.add_argument("--times", type=path, metavar="FILE", help="file of times; or names, exif")
    group.add_argument("--poses", type=path, metavar="FILE", help="file or COLMAP model of poses")
    group.add_argument(
        "--masks", type=path, metavar="FOLDER", help="folder of masks, <image's name>.png: black becomes no points"
    )
    group.add_argument("--scale", type=float, metavar="X", help="metres over lengths as they are without it")
    group.add_argument("--given", default="", choices=("poses",), help="of the data set, beside lenses and times")
    group.add_argument("--time-unit", default="auto", metavar="UNIT", help="of --times: s, ms, us or ns (auto)")
    group.add_argument("--refine", action="store_true", help="poses that are given may move: they are not held")
    group.add_argument(
        "--fisheye", action="store_true", help="images of unknown lenses are fisheyes: lenses are fitted"
    )


def _pass_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-views", type=int, metavar="N", help="images of one pass at most (what memory and training allow)"
    )
    group.add_argument("--max-memory", metavar="SIZE", help="of a pass, such as 8GB (what is free)")
    group.add_argument(
        "--cache",
        type=path,
        metavar="FOLDER",
        help="of passes that later runs take up (OUT.passes, until OUT is done)",
    )
    group.add_argument(
        "--points-from",
        default="depth",
        choices=("depth", "pointmap"),
        help="depth: points lie on the rays of their pixels, at the depths of the model's points; pointmap: where the "
        "model says, which its cameras agree with only roughly (depth)",
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be done and what it takes, then stop")


def _export_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--export", default="", metavar="KINDS", help="such as colmap,glb,usdz (all that are cheap)")
    group.add_argument(
        "--confident", type=float, metavar="X", help="share of the points that files have, the surest (0.7)"
    )
    group.add_argument(
        "--edges", type=float, metavar="X", help="leave points at depth jumps of this share out (0.05); 0 keeps them"
    )
    group.add_argument(
        "--voxel", type=float, metavar="X", help="keep one point in each cube of this edge, in the length unit"
    )
    group.add_argument("--budget", type=int, metavar="N", help="most points in a file (1000000)")


def _reconstruct(options: argparse.Namespace) -> int:
    if options.out.exists():
        raise ValueError(f"{options.out}: exists already; give a new folder, or remove it first")
    kinds = _kinds(options.export)
    points, how = _point_options(options), _how(options)
    from rig3r_jax.exports.export import export
    from rig3r_jax.formats.atomic import remove_leftovers, whole_path
    from rig3r_jax.formats.cameras_json import write_cameras
    from rig3r_jax.inference.inputs import read_inputs
    from rig3r_jax.inference.models.open import content_of, open_model
    from rig3r_jax.inference.plan import plan
    from rig3r_jax.inference.reconstruct import reconstruct

    content_of(options.model)  # what is none is told before images are read, which may take a while
    if count := remove_leftovers(options.out):
        _tell(f"removed what a run that was killed has left beside {options.out} ({count})")
    with whole_path(options.out) as out:
        inputs = read_inputs(_inputs(options), out)
        for note in inputs.notes:
            _tell(note)
        model = open_model(options.model)
        planned = plan(model, inputs.image_sizes, how, _tell)
        if options.dry_run:
            shutil.rmtree(out, ignore_errors=True)
            return 0
        result = reconstruct(model, inputs.folder, inputs.photographs, inputs.known, planned, how, _tell)
        result = dataclasses.replace(result, image_folder=_image_folder(inputs.folder, out))
        out.mkdir(exist_ok=True)
        report = export(result, out, kinds, points)
        if inputs.truth is not None:
            write_cameras(out / "truth.json", inputs.truth)
    if options.cache is None:
        shutil.rmtree(how.cache, ignore_errors=True)
    lines = [line.replace(str(out), str(options.out)) for line in report.lines()]
    print("\n".join([*result.notes, *lines, _summary(result), *_look(options.out, report)]))
    return 0


def _kinds(words: str) -> list[str] | None:
    """ValueError for kinds that are unknown or want a package that is not installed, before any work."""
    if not words:
        return None
    from rig3r_jax.exports.export import check_kinds, check_packages

    kinds = [kind.strip() for kind in words.split(",")]
    check_kinds(kinds)
    check_packages(kinds)
    return kinds


def _point_options(options: argparse.Namespace) -> "ExportOptions":
    from rig3r_jax.exports.options import ExportOptions

    values = {name: getattr(options, name) for name in ("confident", "edges", "voxel", "budget")}
    chosen = {name: value for name, value in values.items() if value is not None}
    return ExportOptions(**chosen | ({"edges": None} if options.edges == 0 else {}))


def _how(options: argparse.Namespace) -> "ReconstructOptions":
    from rig3r_jax.inference.memory import parse_bytes
    from rig3r_jax.inference.options import ReconstructOptions

    return ReconstructOptions(
        wide=options.fisheye,
        refine=options.refine,
        unordered=options.unordered,
        points_from=options.points_from,
        max_views=options.max_views,
        max_memory=parse_bytes(options.max_memory) if options.max_memory else None,
        cache=options.cache or options.out.with_name(f"{options.out.name}.passes"),
    )


def _inputs(options: argparse.Namespace) -> "InputOptions":
    from rig3r_jax.inference.inputs import InputOptions

    fields = {field.name for field in dataclasses.fields(InputOptions)}
    values = {name: value for name, value in vars(options).items() if name in fields}
    return InputOptions(**values | {"given": tuple(filter(None, [options.given]))})


def _fps(words: str) -> float | None:
    """Of videos; None: all."""
    try:
        return None if words == "all" else float(words)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{words!r} must be a number of frames per second, or all") from error


def _image_folder(folder: Path, out: Path) -> str:
    """Relative to the folder that is made, where it is in that."""
    return folder.relative_to(out).as_posix() if folder.is_relative_to(out) else str(folder.absolute())


def _tell(line: str) -> None:
    print(line, flush=True)


def _summary(result: "Reconstruction") -> str:
    unit = {
        "given": "metres, by --scale",
        "given poses": "metres, by the given poses",
        "rig baselines": "metres, by the rig's baselines",
        "none": "units of the scene: nothing tells metres",
    }[result.scale.source]
    return f"lengths are {unit}"


def _look(out: Path, report: "ExportReport") -> list[str]:
    """How to see it, by what was written."""
    viewable = "cameras" in report.written and {"npz", "ply"} & set(report.written)
    ways = [f"rig3r view {shlex.quote(str(out))}"] if viewable else []
    ways += [f"open {report.written['report'].name} in a browser"] if "report" in report.written else []
    return [f"to look at it: {', or '.join(ways)}"] if ways else []


COMMANDS = {
    "reconstruct": Command("make cameras and points of photographs with a trained model", _arguments, _reconstruct),
}
