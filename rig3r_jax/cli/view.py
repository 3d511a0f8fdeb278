"""`rig3r view`: a reconstruction in the browser."""

import argparse

from rig3r_jax.cli.command import Command, path


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out", metavar="OUT", type=path, help="folder that `rig3r reconstruct`, an export or a run's report has made"
    )
    parser.add_argument("--port", type=int, default=8080, help="where to listen (8080); 0: a free port")
    parser.add_argument(
        "--public", action="store_true", help="let other machines look too, without a password; else this one alone"
    )
    parser.add_argument("--truth", type=path, metavar="FILE", help="cameras.json of true cameras to draw beside")
    parser.add_argument(
        "--align",
        choices=("similarity", "rigid", "none"),
        help="how the truth is moved onto the cameras (rigid where both are metric, else similarity)",
    )


def _view(options: argparse.Namespace) -> int:
    if options.align and not options.truth:
        raise ValueError("--align is about the truth; give --truth FILE too")
    from rig3r_jax.viz.viewer.content import read_content
    from rig3r_jax.viz.viewer.serve import serve
    from rig3r_jax.viz.viewer.truth import read_truth

    content = read_content(options.out)
    truth = read_truth(options.truth, content.reconstruction, options.align) if options.truth else None
    serve(content, truth, options.port, options.public)
    return 0


COMMANDS = {"view": Command("show a reconstruction in the browser", _arguments, _view, extra="view")}
