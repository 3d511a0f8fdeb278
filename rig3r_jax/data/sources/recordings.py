"""What recordings of rigs share, whatever their files: images with poses and calibrated cameras, cut into scenes.

A source lists its recordings and reads one as a `Recording`, without its images; the rest is here.
"""

import collections
import dataclasses
import functools
import logging
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import rig3r_jax  # by which an annotation below is read
from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import (
    BadRecord,
    DenseDepth,
    Frame,
    LeftOut,
    RigCamera,
    Scene,
    SparseDepth,
    about,
    leaving_out,
    no_frame_left,
)
from rig3r_jax.data.source import Scenes, bad_scene
from rig3r_jax.data.sources.cut_by_time import CutByTime
from rig3r_jax.geometry import rigid

if typing.TYPE_CHECKING:
    import rig3r_jax.geometry.camera

_NOTED = 5  # recordings whose files are told
_KEPT = 2  # recordings in memory: a model of COLMAP may have millions of points
BY_TIME, BY_RECORDING = "time", "recording"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RecordedCamera:
    """A camera as far as the files tell before an image is read."""

    name: str
    lens: "rig3r_jax.geometry.camera.Lens"  # in a string: its module imports JAX (see data.scene)
    size: tuple[int, int] | None  # height, width; None: that of most of its images
    rig_from_camera: np.ndarray  # (4, 4) float64, of any frame of the rig


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image of a recording with its pose; its files are read where the scene is made."""

    camera: int  # index into Recording.cameras
    step: int  # of the recording's time steps, which are counted from 0 without gaps
    time: float  # seconds
    image: Path
    world_from_camera: np.ndarray  # (4, 4) float64, metres
    depth: Callable[[RigCamera], DenseDepth | SparseDepth] | None = None  # raises BadRecord
    mask: Callable[[RigCamera], bytes] | None = None  # raises BadRecord


@dataclasses.dataclass(frozen=True)
class Recording:
    """A rig's way through one place."""

    name: str
    cameras: tuple[RecordedCamera, ...]
    shots: tuple[Shot, ...]  # by (step, camera)
    left_out: tuple[LeftOut, ...] = ()  # images that are listed and of no use
    notes: tuple[str, ...] = ()  # what was read from which file
    ordered: bool = True  # False: photographs of one camera, whose time steps are in no order

    @property
    def steps(self) -> int:
        """How many time steps there are."""
        return self.shots[-1].step + 1 if self.shots else 0


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
        chosen = self.block(len(entries), split) if self.split_by == BY_RECORDING else range(len(entries))
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


def in_order(shots: Sequence[Shot]) -> tuple[Shot, ...]:
    """By (step, camera), with steps counted anew from 0 without gaps."""
    rank = {step: number for number, step in enumerate(sorted({shot.step for shot in shots}))}
    renumbered = (dataclasses.replace(shot, step=rank[shot.step]) for shot in shots)
    return tuple(sorted(renumbered, key=lambda shot: (shot.step, shot.camera)))


def steps_by_time(taken: Sequence[tuple[object, float]], tolerance: float) -> list[int]:
    """The time step of each of (camera, seconds): images of different cameras within `tolerance` seconds of the first
    of a step are in it. Steps ascend in time."""
    steps = [0] * len(taken)
    step, start, cameras = -1, -float("inf"), set()
    for number in sorted(range(len(taken)), key=lambda number: taken[number][1]):
        camera, time = taken[number]
        if time - start > tolerance or camera in cameras:
            step, start, cameras = step + 1, time, set()
        cameras.add(camera)
        steps[number] = step
    return steps


def load_scene(recording: Recording, name: str, steps: frozenset[int], front: int) -> Scene:
    """The scene of some time steps of a recording: images, depths and masks are read here.

    A frame whose files do not read is left out. The rig's frame is that of camera number `front`, or of the first one
    of which the scene has an image where it has none of that. BadRecord, naming the first reason, for no frame at all.
    """
    shots = [shot for shot in recording.shots if shot.step in steps]
    left_out: list[LeftOut] = []
    images: dict[int, tuple[bytes, tuple[int, int]]] = {}
    for number, shot in enumerate(shots):
        with leaving_out(left_out, _name(recording, shot)), about("image"):
            images[number] = read_image(shot.image)
    cameras, index_of = _cameras(recording, [(shots[number], size) for number, (_, size) in images.items()], front)
    if not cameras:
        raise no_frame_left(name, left_out)
    reference = next((shots[number] for number in images if shots[number].camera == front), shots[min(images)])
    base_from_world = rigid.invert(reference.world_from_camera)
    frames = []
    for number, (image, size) in images.items():
        shot = shots[number]
        with leaving_out(left_out, _name(recording, shot)):
            camera = cameras[index_of[shot.camera]]
            with about("image"):
                _check_size(shot, size, camera, recording.cameras[shot.camera])
            with about("depth"):
                depth = shot.depth(camera) if shot.depth else NO_POINTS
            with about("mask"):
                mask = shot.mask(camera) if shot.mask else b""
            frames.append(
                Frame(
                    camera=index_of[shot.camera],
                    time=shot.time,
                    step=shot.step - min(steps),
                    world_from_camera=base_from_world @ shot.world_from_camera,
                    image=image,
                    depth=encode_depth(depth),
                    mask=mask,
                )
            )
    if not frames:
        raise no_frame_left(name, left_out)
    front_index = index_of.get(front, 0)
    (body_from_rig,) = (
        recorded.rig_from_camera
        for number, recorded in enumerate(recording.cameras)
        if index_of.get(number) == front_index
    )
    return Scene(
        name,
        cameras,
        front_index,
        tuple(frames),
        tuple(left_out),
        source_from_world=reference.world_from_camera,
        body_from_rig=body_from_rig,
        ordered=recording.ordered,
    )


def _name(recording: Recording, shot: Shot) -> str:
    return f"{recording.cameras[shot.camera].name}, {shot.image.name}"


def _check_size(shot: Shot, size: tuple[int, int], camera: RigCamera, recorded: RecordedCamera) -> None:
    if size != camera.size:
        what = "its calibration is for" if recorded.size else "most images of the camera are"
        raise BadRecord(
            f"{shot.image}: is {size}, {what} {camera.size} (height, width); calibrate for the images as stored"
        )


def _cameras(
    recording: Recording, seen: Sequence[tuple[Shot, tuple[int, int]]], front: int
) -> tuple[tuple[RigCamera, ...], dict[int, int]]:
    """The cameras of which a scene has images, in the frame of the front one; and their numbers by the recording's."""
    sizes: dict[int, collections.Counter[tuple[int, int]]] = {}
    for shot, size in seen:
        sizes.setdefault(shot.camera, collections.Counter())[size] += 1
    numbers = sorted(sizes)
    if not numbers:
        return (), {}
    front = front if front in numbers else numbers[0]
    front_from_rig = rigid.invert(recording.cameras[front].rig_from_camera)
    cameras = []
    for number in numbers:
        camera = recording.cameras[number]
        place = np.eye(4) if number == front else rigid.nearest_rigid(front_from_rig @ camera.rig_from_camera)
        size = camera.size or sizes[number].most_common(1)[0][0]
        cameras.append(RigCamera(camera.name, camera.lens, size, place))
    return tuple(cameras), {number: index for index, number in enumerate(numbers)}
