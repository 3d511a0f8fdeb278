"""The listing of a DGP data set: which file it is, its scenes by split, and what is odd about it."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.data.files import read_json
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.source import even_pieces
from rig3r_jax.formats.text import with_slashes

_LISTINGS = ("scene_dataset*.json", "ddad*.json")
LISTINGS_WANTED = " or ".join(_LISTINGS)  # for messages
_SPLIT_NAMES = {"0": "train", "1": "val", "2": "test", "3": "train_overfit"}  # DGP's DatasetSplit
_SHOWN = 5  # names in a note


def _listings(folder: Path) -> list[Path]:
    """The listings of a folder, the one to read first: ddad.json, or the newest scene_dataset, or another ddad's."""
    paths = [path for pattern in _LISTINGS for path in folder.glob(pattern)]
    if not paths:
        raise BadRecord(f"{folder}: holds no {LISTINGS_WANTED}; give the folder of a DGP data set")

    def rank(path: Path) -> tuple:
        version = [int(number) for number in re.findall(r"\d+", path.stem)]  # v1.10 is newer than v1.2
        return path.name == "ddad.json", path.name.startswith("scene_dataset"), version, path.name

    return sorted(paths, key=rank, reverse=True)


def scene_files(folder: Path) -> dict[str, list[Path]]:
    """The scene files by split, as the data set's listing names them."""
    listing = _listings(folder)[0]
    try:
        table = read_json(listing)["scene_splits"]
        files = {_SPLIT_NAMES.get(key, f"split_{key}"): entry["filenames"] for key, entry in table.items()}
        files = {split: [folder / with_slashes(name) for name in names] for split, names in files.items() if names}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"{listing}: is no DGP data set listing ({error!r}); restore the file") from error
    if not files:
        raise BadRecord(f"{listing}: lists no scenes; give the folder of a data set with scenes")
    return files


def windows_of(path: Path, window: int) -> list[range]:
    """Steps of the windows of a scene; one of none where the scene does not read, so that its loader tells why."""
    try:
        count = len(read_json(path)["samples"])
    except (BadRecord, KeyError, TypeError):
        return [range(0)]
    return even_pieces(range(count), window) or [range(0)]


def calibration_key(path: Path) -> str | None:
    """Of the first sample of a scene; None where the scene does not read."""
    try:
        return str(read_json(path)["samples"][0]["calibration_key"])
    except (BadRecord, KeyError, IndexError, TypeError):
        return None


def listing_notes(folder: Path) -> Iterator[str]:
    """Which of several listings is read, and which scenes are in more than one split."""
    listing, *others = _listings(folder)
    if others:
        names = ", ".join(path.name for path in others)
        yield f"{listing} is read, not {names} beside it; to read another, move the first ones away"
    for (a, files_a), (b, files_b) in itertools.combinations(scene_files(folder).items(), 2):
        if same := sorted({path.parent.name for path in files_a if path in files_b}):
            some = ", ".join(same[:_SHOWN]) + (f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else "")
            yield (
                f"{listing}: {a} and {b} name the same scenes, {len(same)} of them ({some}): scores on {b} after "
                f"training on {a} say nothing about new places"
            )
