"""The rows of an evaluation by name: settings of the metadata, blank images, and what needs no training.

Beside the names of the subsets of image pairs that each row is scored on. Nothing heavy is imported.
"""

from collections.abc import Sequence

# What each setting shows of the metadata.
SETTINGS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "camera": frozenset({"camera_id"}),
    "time": frozenset({"time"}),
    "rig": frozenset({"rig"}),
    "camera+time": frozenset({"camera_id", "time"}),
    "camera+rig": frozenset({"camera_id", "rig"}),
    "time+rig": frozenset({"time", "rig"}),
    "all": frozenset({"camera_id", "time", "rig"}),
}
UNTRAINED = "untrained"  # random weights, all metadata
_NO_NETWORK = "no network: "
FORWARD = f"{_NO_NETWORK}identity, forward motion"
CLOSED_FORM = f"{_NO_NETWORK}rig + time closed form"
SPEED = 7.5  # metres a second, straight ahead, of both
_BLANKED = ", images blanked"

AUC = "AUC"  # the key of the areas under the curve, by threshold and protocol
SUBSETS = SAME_TIME, ACROSS_TIMES, NEAR, FAR = ("same_time", "across_times", "near", "far")


def blank_label(setting: str) -> str:
    """Name of the row that shows the metadata of `setting` and grey images."""
    return setting + _BLANKED


def is_control(row: str) -> bool:
    """Whether the row is no use of the trained network on real images: no network, no training, or blank images."""
    return row.startswith((_NO_NETWORK, UNTRAINED)) or row.endswith(_BLANKED)


def has_network(row: str) -> bool:
    """Whether the row is of a trained network, on real images or on blank ones."""
    return not row.startswith((_NO_NETWORK, UNTRAINED))


def check_settings(settings: Sequence[str]) -> None:
    """ValueError that names settings which do not exist."""
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown:
        raise ValueError(f"settings {unknown} are unknown; choose from {', '.join(SETTINGS)}")
