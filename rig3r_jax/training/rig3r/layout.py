"""How a step is spread over devices and micro-batches, and the layout nearest to a config's that fits the devices."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from rig3r_jax.models.dpt import views_at_a_time
from rig3r_jax.models.remat import REMAT_POLICIES


@dataclasses.dataclass(frozen=True)
class Layout:
    """config.mesh, train.accumulate and model.remat."""

    data: int
    fsdp: int
    frames: int
    accumulate: int
    remat: str

    @classmethod
    def of(cls, config: ConfigDict) -> "Layout":
        """That of a config."""
        mesh = config.mesh
        return cls(mesh.data, mesh.fsdp, mesh.frames, config.train.accumulate, config.model.remat)

    @property
    def devices(self) -> int:
        return self.data * self.fsdp * self.frames

    @property
    def shares(self) -> int:
        """Equal shares of a batch that are whole samples: of each copy or part of the state, for each micro-batch."""
        return self.data * self.fsdp * self.accumulate

    def flags(self, config: ConfigDict) -> str:
        """What to type so that a config has this layout."""
        keys = {
            "mesh.data": self.data,
            "mesh.fsdp": self.fsdp,
            "mesh.frames": self.frames,
            "train.accumulate": self.accumulate,
            "model.remat": self.remat,
        }
        changed = {key: value for key, value in keys.items() if _at(config, key) != value}
        return " ".join(f"--config.{key}={value}" for key, value in changed.items())


def nearest_layout(
    config: ConfigDict, devices: int, fits: Callable[[Layout], bool] = lambda layout: True
) -> Layout | None:
    """The layout over `devices` devices that changes least of a config's, with no more samples on a device at a time.

    More micro-batches are the first resort, since they cost little time; then a state that is cut over more devices
    (fsdp), then a policy of remat that keeps less, last the frames of a sample over several devices.

    Args:
        fits: what else a layout must be, such as small enough for a device's memory.

    Returns:
        None where no layout fits.
    """
    own = Layout.of(config)
    batch = config.train.batch_size
    most = max(batch // own.shares, 1)
    for layout in _layouts(config, own, devices):
        if batch % layout.shares == 0 and batch // layout.shares <= most and fits(layout):
            return layout
    return None


def evaluation_batch_sizes(config: ConfigDict, devices: int, samples: int = 0) -> list[int]:
    """Sizes of a batch over `devices` copies of the state that divide evaluation.samples, smallest first; on each
    device no more samples at a time than the config's own mesh gave it. `samples`: instead of those of the config."""
    samples, mesh = samples or config.evaluation.samples, config.mesh
    most = max(config.evaluation.batch_size // (mesh.data * mesh.fsdp), 1) * devices
    return [rows for rows in range(devices, most + 1, devices) if samples % rows == 0]


def evaluation_flags(config: ConfigDict, rows: int, fits: Callable[[int], bool] = lambda size: True) -> str:
    """What to type so that an evaluation's batches are whole over `rows` copies of the state, of the largest size that
    fits; "" where nothing is to be changed. Samples are added where those of the config are no multiple."""
    own = config.evaluation
    samples = math.ceil(max(own.samples, 1) / rows) * rows
    size = max(size for size in evaluation_batch_sizes(config, rows, samples) if fits(size))
    keys = {"samples": samples, "batch_size": size}
    return " ".join(f"--config.evaluation.{key}={value}" for key, value in keys.items() if own[key] != value)


def divisors(number: int) -> list[int]:
    """Ascending, 1 and the number included."""
    return [n for n in range(1, number + 1) if number % n == 0]


def _layouts(config: ConfigDict, own: Layout, devices: int) -> Iterator[Layout]:
    """All over so many devices, the nearest first."""
    policies = list(REMAT_POLICIES)  # from what keeps most to what keeps least
    policies = policies[policies.index(own.remat) :] if own.remat in policies else [own.remat]
    frames = [n for n in _from(own.frames, divisors(devices)) if _frames_fit(config, n)]
    for n, remat in itertools.product(frames, policies):
        for fsdp in _from(own.fsdp, divisors(devices // n)):
            for accumulate in divisors(config.train.batch_size):
                yield Layout(devices // n // fsdp, fsdp, n, accumulate, remat)


def _from(own: int, numbers: list[int]) -> list[int]:
    """Ascending from `own` on, then those below it, descending."""
    return [n for n in numbers if n >= own] + [n for n in reversed(numbers) if n < own]


def _frames_fit(config: ConfigDict, frames: int) -> bool:
    views = config.sampling.num_views
    chunk = views_at_a_time(views, config.model.dpt_chunk) if config.model.point_head == "dpt" else views
    return views % frames == 0 and chunk % frames == 0


def _at(config: ConfigDict, key: str) -> object:
    section, name = key.split(".")
    return config[section][name]
