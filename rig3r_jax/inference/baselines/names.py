"""The baselines by name, and what each takes. Nothing heavy is imported."""

import dataclasses
import math

from rig3r_jax.evaluation.rows import SPEED, check_settings

_HERE = "rig3r_jax.inference.baselines"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One way to answer samples: without images, by a model that is misled, by COLMAP, or by the model as it is."""

    words: str  # what it does
    function: str  # module:name of what answers a sample, imported when wanted; see `answer.Answering`
    takes: tuple[str, ...] = ()  # fields of `BaselineOptions`, and "model"
    extra: str = ""  # of pyproject.toml that it cannot do without


BASELINES = {
    "identity": Baseline("all cameras at the origin, unturned; told nothing", f"{_HERE}.motion:identity"),
    "forward": Baseline(
        "all cameras unturned, moving along the first one's axis; told the times", f"{_HERE}.motion:forward", ("speed",)
    ),
    "closed-form": Baseline(
        "the rig moving straight ahead at one speed; told cameras, times and rig",
        f"{_HERE}.motion:closed_form",
        ("speed",),
    ),
    "model": Baseline(
        "the model itself, given images and metadata: what the next three are held against",
        f"{_HERE}.network:model_itself",
        ("model", "setting"),
    ),
    "blank": Baseline(
        "the model given grey images and the metadata", f"{_HERE}.network:blank_images", ("model", "setting")
    ),
    "shuffled": Baseline(
        "the model given each image with another one's camera, time and place in the rig",
        f"{_HERE}.network:shuffled_metadata",
        ("model", "setting", "seed"),
    ),
    "wrong-rig": Baseline(
        "the model given the places and lenses of another sample's rig",
        f"{_HERE}.network:wrong_rig",
        ("model", "setting"),
    ),
    "colmap": Baseline(
        "COLMAP's incremental mapping; told which images are of one camera",
        f"{_HERE}.structure:colmap",
        ("seed", "limit_seconds"),
        "data",
    ),
}


@dataclasses.dataclass(frozen=True)
class BaselineOptions:
    """What can be chosen; which baseline takes what is in `BASELINES`. ValueError names what does not fit."""

    setting: str = "all"  # of the metadata that the model is told, of `evaluation.rows.SETTINGS`
    speed: float = SPEED  # metres a second
    seed: int = 0  # of what is drawn
    limit_seconds: float = 60.0  # of the mapping of one sample

    def __post_init__(self) -> None:
        check_settings([self.setting])
        if not math.isfinite(self.speed):
            raise ValueError(f"speed is {self.speed}; it must be a number of metres a second")
        if not self.limit_seconds >= 1:
            raise ValueError(f"limit_seconds is {self.limit_seconds:g}; it must be 1 at least")
