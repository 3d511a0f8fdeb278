"""`rig3r try`: from nothing to a reconstruction that can be looked at, by the model that comes with the package."""

import argparse
import shlex
import time

from rig3r_jax.cli.command import Command, path

_MODEL = "demo"
_WORDS = """
{out}/scene/report.html    open it in a browser: the images, their depth, and cameras and points in 3D, which turn
                           by dragging
{out}/found/rig.svg        the same images, but the program was not told that a rig took them: which camera took which,
                           and where these sit
{out}/my_rig/drive_00      the images that it saw, and the truth: rig_config.json, poses.txt, depth/

All of it took {seconds:.0f} s. The model is a small one, trained on rendered streets alone: {card}
Images of your own, of which it will say less:
    rig3r reconstruct PHOTOS --model {model} --out OUT"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=path, help="folder to make")


def _try(options: argparse.Namespace) -> int:
    out = options.out
    if out.exists():
        raise ValueError(f"{out}: exists already; give a new folder, or remove it first")
    from rig3r_jax.cli.program import main
    from rig3r_jax.weights.shipped_models import located

    start, drive = time.monotonic(), out / "my_rig" / "drive_00"
    commands = [
        ["example-rig", f"{out}/my_rig", "--drives=1", "--cameras=4", "--steps=6"],
        ["reconstruct", f"{drive}", f"--rig={drive}/rig_config.json", f"--times={drive}/times.txt", f"--model={_MODEL}",
         f"--out={out}/scene"],
        ["discover", f"{drive}/images", f"--model={_MODEL}", f"--out={out}/found"],
    ]  # fmt: skip
    for words in commands:
        print("\n$ " + shlex.join(["rig3r", *words]), flush=True)
        if code := main(words):
            return code
    card = located(_MODEL).with_suffix(".md")
    print(_WORDS.format(out=out, seconds=time.monotonic() - start, model=_MODEL, card=card))
    return 0


COMMANDS = {
    "try": Command("make example images, reconstruct them and find out their rig: half a minute", _arguments, _try)
}
