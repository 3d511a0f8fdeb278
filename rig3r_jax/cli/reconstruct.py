"""`rig3r reconstruct`: photographs in, cameras and points out."""

import argparse

from rig3r_jax.cli.command import Command, path


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="a folder of images, or of a rig's (images/<camera>/<name>, equal names: one time step); files; patterns",
    )
    parser.add_argument("--model", type=path, required=True, help="workdir of a run of `rig3r train`")
    parser.add_argument("--out", type=path, required=True, help="folder to make")
    parser.add_argument(
        "--rig",
        type=path,
        help="COLMAP's rig_config.json or Kalibr's camchain.yaml of the rig, of images as viewers show them",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th time step, or image (1)")
    parser.add_argument("--max-views", type=int, help="images of the pass at most (four times as many as trained on)")


def _reconstruct(options: argparse.Namespace) -> int:
    for name, value in (("--every", options.every), ("--max-views", options.max_views)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if options.out.exists():
        raise ValueError(f"{options.out}: exists already; give a new folder, or remove it first")
    from rig3r_jax.data.sources.folder.calibration import read_calibration
    from rig3r_jax.formats.atomic import whole_path
    from rig3r_jax.formats.cameras_json import write_cameras
    from rig3r_jax.formats.ply import write_ply
    from rig3r_jax.inference.known import Known
    from rig3r_jax.inference.models.open import open_model
    from rig3r_jax.inference.photographs import find_photographs
    from rig3r_jax.inference.reconstruct import reconstruct

    rig = read_calibration(options.rig) if options.rig else None
    folder, photographs = find_photographs(options.inputs, [camera.name for camera in rig.cameras] if rig else [])
    numbered = enumerate(photographs)
    photographs = [
        photograph
        for number, photograph in numbered
        if (number if photograph.step is None else photograph.step) % options.every == 0
    ]
    model = open_model(options.model)
    most = options.max_views or 4 * model.usual_views
    if len(photographs) > most:
        raise ValueError(
            f"{folder}: {len(photographs)} images are more than {most} of one pass (the model was trained on "
            f"{model.usual_views}); take fewer by --every={-(-len(photographs) // most)}, or raise --max-views"
        )
    print(f"{len(photographs)} images of {folder}", flush=True)
    reconstruction = reconstruct(model, folder, photographs, Known(rig))
    points = reconstruction.points
    confident = points.confident()
    with whole_path(options.out) as out:
        out.mkdir()
        write_cameras(out / "cameras.json", reconstruction)
        write_ply(out / "points.ply", points.points_world[confident], points.colors[confident])
    unit = {"metre": "metres, by the rig's baselines", "scene": "units of the scene"}[reconstruction.length_unit]
    share = f"the {confident.sum():,} surest of {points.on_image.sum():,} points"
    print(f"{options.out}: cameras.json, points.ply ({share}); lengths are {unit}")
    return 0


COMMANDS = {
    "reconstruct": Command("make cameras and points of photographs with a trained model", _arguments, _reconstruct),
}
