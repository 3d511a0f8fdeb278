"""A source that other processes can import, and that writes down every scene it loads and by whom."""

import dataclasses
import functools
import os
import time
from pathlib import Path

from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Scenes, Source
from tests.data.scenes import make_scene

LOG = "loads.txt"


@dataclasses.dataclass(frozen=True)
class Logged(Source):
    """Tiny scenes; the root is where the log goes. With a file `slow` in it every scene takes its time."""

    train: int = 12
    val: int = 3
    bad: tuple[int, ...] = ()  # scenes of train
    crash_at: int = -1  # scene of train that ends the process, as long as there is no file `repaired` in the root

    def splits(self) -> tuple[str, ...]:
        return "train", "val"

    def scenes(self, split: str) -> Scenes:
        return [(f"{split}_{n}", functools.partial(self.load, split, n)) for n in range(getattr(self, split))]

    def load(self, split: str, number: int) -> Scene:
        with open(Path(self.root) / LOG, "a") as log:
            words = (f"{split}_{number}", os.getpid(), os.environ.get("JAX_PLATFORMS"), _device())
            print(*words, file=log)
        if (Path(self.root) / "slow").exists():
            time.sleep(0.2)
        if split == "train" and number == self.crash_at and not (Path(self.root) / "repaired").exists():
            raise RuntimeError("a bug")
        if split == "train" and number in self.bad:
            raise BadRecord(f"{number}.jpg: no good")
        scene = make_scene(number, steps=2, cameras=2, size=(8, 8))
        return dataclasses.replace(scene, name=f"{split}_{number}")

    def loads(self) -> list[str]:
        """Scenes that were loaded, in the order of their beginnings."""
        return [line.split()[0] for line in self.log()]

    def log(self) -> list[str]:
        """Lines of scene, process, JAX_PLATFORMS and device."""
        file = Path(self.root) / LOG
        return file.read_text().splitlines() if file.exists() else []


def _device() -> str:
    import jax

    return jax.devices()[0].platform
