"""What sources of recordings of rigs share: recordings are listed, cut into scenes and split, by time or whole.

A source lists its recordings and reads one as a `Recording`, without its images; the rest is here.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rig3r_jax.data.scene import BadRecord, LeftOut, Scene
from rig3r_jax.data.source import Scenes, bad_scene
from rig3r_jax.data.sources.cut_by_time import CutByTime
from rig3r_jax.data.sources.recorded_rig import Recording, in_order, load_scene

_NOTED = 5  # recordings whose files are told
_KEPT = 2  # recordings in memory: a model of COLMAP may have millions of points
BY_TIME, BY_RECORDING = "time", "recording"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RigRecordings(CutByTime):
    """Options of recordings of rigs. Frames are time steps, each with the images of all cameras."""

    window: int = 16
    min_frames: int = 1
    split_by: str = BY_TIME  # every recording by time; or recording: whole ones, by the order of their names
    front: str = ""  # name of the camera whose frame is the rig's; "": the first
    cameras: tuple[str, ...] = ()  # names of the cameras to keep; () keeps all

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if self.split_by not in (BY_TIME, BY_RECORDING):
            yield f"split_by={self.split_by!r} must be {BY_TIME} or {BY_RECORDING}"
        if self.cameras and self.front and self.front not in self.cameras:
            yield f"cameras={list(self.cameras)} must hold the front camera {self.front!r}; add it or set front="

    def recordings(self) -> list[tuple[str, Path]]:
        """Names, and folders; the order is that of splits by recording. BadRecord where the root holds none."""
        raise NotImplementedError

    def folders_holding(self, *parts: str) -> list[tuple[str, Path]]:
        """Names and paths of the folders that hold one of `parts`, paths below them: the root, where it holds the first
        of them, or those in it. BadRecord where there is none.
        """
        root = self.folder()
        if (root / parts[0]).exists():
            return [(root.resolve().name, root)]
        folders = {path.parents[len(Path(part).parts) - 1] for part in parts for path in root.glob(f"*/{part}")}
        if not folders:
            held = f"neither it nor a folder in it holds {parts[0]}"
            raise BadRecord(f"{root}: {held}; give the folder that holds {self.root_holds}")
        return [(folder.name, folder) for folder in sorted(folders)]

    def read(self, name: str, folder: Path) -> Recording:
        """The recording of a folder, without its images; ValueError naming the file, the rule and the remedy."""
        raise NotImplementedError

    def splits(self) -> tuple[str, ...]:
        """See `Source`."""
        self.recordings()
        return super().splits()

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        entries, loaders = self._listed(), []
        chosen = range(len(entries))
        if self.split_by == BY_RECORDING:
            chosen = dataclasses.replace(self, gap=0).block(len(entries), split)  # the gap is of time steps
        for listing in entries[chosen.start : chosen.stop]:
            loaders += self._scenes_of(listing, split)
        return loaders

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """See `Source`."""
        return [(listing.name, entry) for listing in self._listed() for entry in listing.left_out]

    def notes(self) -> list[str]:
        """What was read from which file."""
        readable = [listing for listing in self._listed() if not listing.fault]
        notes = [f"{listing.name}: {note}" for listing in readable[:_NOTED] for note in listing.notes]
        return [*notes, f"and {len(readable) - _NOTED} recordings more"] if len(readable) > _NOTED else notes

    def recording(self, name: str, folder: Path) -> Recording:
        """That of a folder with the cameras that the options keep; the last few are kept. BadRecord for one that cannot
        be read, or that lacks a camera."""
        kept = self.__dict__.setdefault("_kept_recordings", {})
        if folder not in kept:
            try:
                recording = _kept(self.read(name, folder), self)
            except OSError as error:
                raise BadRecord(f"{error.filename}: cannot be read ({error.strerror}); restore the file") from error
            while len(kept) >= _KEPT:
                kept.pop(next(iter(kept)))
            kept[folder] = recording
        return kept[folder]

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: what was read stays in its process."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _listed(self) -> list["_Listing"]:
        """What is told of every recording; each is read once for that, for all splits, and let go."""
        if "_listings" not in self.__dict__:
            listings = []
            for name, folder in self.recordings():
                try:
                    recording = self.recording(name, folder)
                except ValueError as error:  # one bad recording is one bad scene
                    listings.append(_Listing(name, folder, fault=str(error)))
                else:
                    listings.append(_Listing(name, folder, recording.steps, recording.left_out, recording.notes))
            self.__dict__["_listings"] = listings
        return self.__dict__["_listings"]

    def _scenes_of(self, listing: "_Listing", split: str) -> Scenes:
        if listing.fault:
            return [bad_scene(listing.name, listing.fault)]
        steps = range(0, listing.steps, self.stride)
        block = steps
        if self.split_by == BY_TIME:
            part = self.block(len(steps), split)
            block = steps[part.start : part.stop]
        if len(block) < self.min_frames:
            if not block and self.min_frames == 1:  # a short recording, which may have nothing for a small share
                logger.warning("%s: none of its %d time steps is for %s", listing.name, len(steps), split)
                return []
            reason = (
                f"{listing.name}: {len(block)} of {len(steps)} time steps are for {split}, must be at least "
                f"{self.min_frames}; lower min_frames, gap or stride, or change fractions"
            )
            return [bad_scene(listing.name, reason)]
        return [
            (name, functools.partial(_load, self, listing, name, frozenset(piece)))
            for piece in self.pieces(block)
            if (name := listing.name + (f"_{piece[0]:05d}" if piece[0] or len(block) < len(steps) else ""))
        ]


@dataclasses.dataclass(frozen=True)
class _Listing:
    """What is kept of a recording when its scenes are listed."""

    name: str
    folder: Path
    steps: int = 0
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    fault: str = ""  # why it cannot be read


def _load(source: RigRecordings, listing: _Listing, name: str, steps: frozenset[int]) -> Scene:
    recording = source.recording(listing.name, listing.folder)
    front = [camera.name for camera in recording.cameras].index(source.front) if source.front else 0
    return load_scene(recording, name, steps, front)


def _kept(recording: Recording, source: RigRecordings) -> Recording:
    """The recording with the cameras that the options keep. BadRecord where it lacks one."""
    names = [camera.name for camera in recording.cameras]
    if missing := [name for name in (*source.cameras, source.front) if name and name not in names]:
        raise BadRecord(f"{recording.name}: has no camera {missing[0]!r}; it has {', '.join(names)}; change the option")
    if not source.cameras:
        return recording
    numbers = [names.index(name) for name in source.cameras]
    shots = [
        dataclasses.replace(shot, camera=numbers.index(shot.camera))
        for shot in recording.shots
        if shot.camera in numbers
    ]
    cameras = tuple(recording.cameras[number] for number in numbers)
    return dataclasses.replace(recording, cameras=cameras, shots=in_order(shots))
