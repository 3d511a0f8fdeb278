"""What a build of records came to: scenes written, scenes and frames left out and why, and whether that is too much."""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut
from rig3r_jax.formats.json_file import read_json, write_json

SHOWN = 20  # scenes that a message names
_FRAMES_SHOWN = 6
MAX_BAD_FRACTION = 0.1  # of scenes, and of frames, by default
_QUARANTINE = "quarantine.json"


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a folder of records holds."""

    path: Path
    splits: dict[str, int]  # scenes written
    skipped: list[tuple[str, str]]  # ("split/scene", reason)
    reused: bool  # true where the folder was complete already
    frames: int = 0  # written
    left_out: tuple[tuple[str, LeftOut], ...] = ()  # ("split/scene" or recording, frame and reason)
    without_depth: int = 0  # scenes in which no frame has depth
    notes: Sequence[str] = ()  # about the source's files as a whole
    # Kinds of the cameras' lenses, by split.
    lenses: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    unbuilt: int = 0  # scenes that other shards of the build have yet to write; until then there is no folder

    def summary(self) -> str:
        """Some lines for the reader of a terminal."""
        counts = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        state = "reused, " if self.reused else f"not whole yet, {self.unbuilt} scenes missing; " if self.unbuilt else ""
        lines = [f"{self.path}: {state}scenes per split: {counts}"]
        if self.skipped:
            lines.append(f"{len(self.skipped)} scenes left out, see {self.path / _QUARANTINE}:")
            lines += _listing(self.skipped)
        if self.left_out:
            listed = self.frames + len(self.left_out)
            where = f"see {self.path / _QUARANTINE}"
            lines.append(f"{len(self.left_out)} of {listed} frames left out ({_kinds(self.left_out)}), {where}")
            lines += _listing(_worst(self.left_out), _FRAMES_SHOWN)
        if self.without_depth:
            lines.append(f"{self.without_depth} scenes have no depth: their poses and rays are trained on, no points")
        return "\n".join([*lines, *self.notes])

    def check(self, source: str, total: int, max_bad_fraction: float) -> None:
        """BadRecord, naming the worst reasons and their counts, where too many of `total` scenes or of the frames are
        bad, or nothing was written. Frames that are UNMATCHED are not bad."""
        bad = [entry for entry in self.left_out if entry[1].kind != UNMATCHED]
        frames = self.frames + len(bad)
        if len(self.skipped) > max_bad_fraction * total or not self.frames:
            what, allowed = f"{len(self.skipped)} of {total} scenes", math.floor(max_bad_fraction * total)
            worst = _listing(self.skipped)
        elif len(bad) > max_bad_fraction * frames:
            what, allowed = f"{len(bad)} of {frames} frames", math.floor(max_bad_fraction * frames)
            worst = _listing(_worst(bad), _FRAMES_SHOWN)
        else:
            return
        kinds = f"; of the frames {_kinds(bad)}" if bad else ""
        first = f"source {source!r}: {what} are bad, allowed are {allowed} (max_bad_fraction={max_bad_fraction:g})"
        remedy = "repair or remove these, or allow more, by max_bad_fraction=0.5, say"
        raise BadRecord("\n".join([f"{first}{kinds}:", *worst, remedy]))

    def write_quarantine(self, folder: Path) -> None:
        """Writes quarantine.json: every scene and every frame that was left out, with its reason."""
        entries: list[dict[str, Any]] = [{"scene": scene, "reason": reason} for scene, reason in self.skipped]
        entries += [{"scene": scene, **dataclasses.asdict(frame)} for scene, frame in self.left_out]
        write_json(folder / _QUARANTINE, entries, indent=2)


def read_quarantine(folder: Path) -> tuple[list[tuple[str, str]], tuple[tuple[str, LeftOut], ...]]:
    """Scenes and frames of `BuildReport.write_quarantine`; BadRecord, naming the file, where it is none of that."""
    file = folder / _QUARANTINE
    try:
        entries = read_json(file)
        skipped = [(entry["scene"], entry["reason"]) for entry in entries if "frame" not in entry]
        frames = [entry for entry in entries if "frame" in entry]
        return skipped, tuple((entry.pop("scene"), LeftOut(**entry)) for entry in frames)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"does not read ({error})"
        raise BadRecord(f"{file}: {reason}; restore the file, or delete {folder} and build it again") from error


def _kinds(left_out: Sequence[tuple[str, LeftOut]]) -> str:
    """How many of each kind, most first, such as: image 12, pose 1."""
    counts = collections.Counter(frame.kind or "other" for _, frame in left_out)
    return ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


def _worst(left_out: Sequence[tuple[str, LeftOut]]) -> list[tuple[str, str]]:
    """Names and reasons, those of the commonest kinds first, but each kind's first one before any second."""
    seen: collections.Counter[str] = collections.Counter()
    ranked = []
    counts = collections.Counter(frame.kind for _, frame in left_out)
    for scene, frame in left_out:
        ranked.append(((seen[frame.kind], -counts[frame.kind]), (f"{scene}, {frame.frame}", frame.reason)))
        seen[frame.kind] += 1
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]


def _listing(skipped: Sequence[tuple[str, str]], most: int = SHOWN) -> Iterator[str]:
    yield from (f"  {name}: {reason}" for name, reason in skipped[:most])
    if len(skipped) > most:
        yield f"  and {len(skipped) - most} more"
