"""`rig3r try`: from nothing to a reconstruction that can be looked at, by the model that comes with the package."""

import argparse
import shlex
import tempfile
import time

from rig3r_jax.cli.command import Command, path

_MODEL = "demo"
# A rig of the layout that the model was trained on: cameras all around.
_RIG = ("--drives=1", "--cameras=3", "--steps=6", "--seed=2")
_WORDS = """
{out}/scene/report.html
    Open it in a browser: the images, and the cameras and points made of them in 3D, which turn by dragging.
    The rig was given, and told metres.
{out}/found/rig.svg
    The same images without the rig, and where the model thinks that its cameras sit, seen from above. This rig is
    like those that it was trained on; of others it is mostly wrong, and surer than it should be.
{out}/my_rig/drive_00
    The images, and the truth: rig_config.json, poses.txt, depth/.

That took {seconds:.0f} s. The model is small and was trained on rendered streets alone; what it reaches and cannot do:
    {card}
Images of your own:
    rig3r reconstruct PHOTOS --model {model} --out OUT"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=path, help="folder to make")


def _try(options: argparse.Namespace) -> int:
    out = options.out
    if out.exists():
        raise ValueError(f"{out}: exists already; give a new folder, or remove it first")
    import jax

    from rig3r_jax.cli.program import main
    from rig3r_jax.weights.shipped_models import located

    start, drive = time.monotonic(), out / "my_rig" / "drive_00"
    rig_and_times = [f"--rig={drive}/rig_config.json", f"--times={drive}/times.txt"]
    commands = [
        ["example-rig", f"{out}/my_rig", *_RIG],
        ["reconstruct", f"{drive}", *rig_and_times, f"--model={_MODEL}", f"--out={out}/scene"],
        ["discover", f"{drive}/images", f"--model={_MODEL}", f"--out={out}/found"],
    ]
    cache = jax.config.jax_compilation_cache_dir
    with tempfile.TemporaryDirectory() as compiled:  # the network is compiled once for both
        jax.config.update("jax_compilation_cache_dir", cache or compiled)
        try:
            for words in commands:
                print("\n$ " + shlex.join(["rig3r", *words]), flush=True)
                if code := main(words):
                    return code
        finally:
            jax.config.update("jax_compilation_cache_dir", cache)
    card = located(_MODEL).with_suffix(".md")
    print(_WORDS.format(out=out, seconds=time.monotonic() - start, model=_MODEL, card=card))
    return 0


COMMANDS = {
    "try": Command("make example images, reconstruct them and find out their rig: about a minute", _arguments, _try)
}
