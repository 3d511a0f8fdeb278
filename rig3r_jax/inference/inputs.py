"""All that `rig3r reconstruct` reads: photographs, frames of videos or a scene of a data set, and what is known of
them; with a sentence on each thing that was read."""

import dataclasses
import glob
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rig3r_jax.data.scene import LeftOut
from rig3r_jax.data.sources.folder.images import SUFFIXES, natural
from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.formats.times import AUTO, check_time_unit
from rig3r_jax.inference import videos
from rig3r_jax.inference.exif import exif_lenses
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.known_lenses import calibration_of, check_size, read_lenses, read_rig, rig_notes
from rig3r_jax.inference.known_poses import read_poses
from rig3r_jax.inference.known_times import EXIF, SAME_STEP, read_times, with_steps
from rig3r_jax.inference.masks import find_masks
from rig3r_jax.inference.photographs import Photograph, expand, find_photographs, usable
from rig3r_jax.inference.source_images import read_source
from rig3r_jax.schema import Reconstruction

_NAMED = 20  # images left out, each in a line
POSES = "poses"  # what of a data set is given to the model only where it is asked for


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What is to be read; docs/reconstruct.md has every file in a line."""

    inputs: Sequence[str]  # folders, files, patterns, videos; of a source its root, then options key=value
    source: str = ""  # name of the data set's kind, as of build-data; "": inputs are photographs or videos
    scene: str = ""  # of the source
    given: Sequence[str] = ()  # POSES: the source's poses are known, not only compared with
    fps: float | None = videos.USUAL_FPS  # frames per second of videos; None: all
    every: int = 1  # every n-th time step, or image
    rig: Path | None = None
    cameras: Path | None = None  # a file or folder of intrinsics, or "exif"
    times: Path | None = None  # a file, or "names", "exif"
    poses: Path | None = None
    masks: Path | None = None  # folder
    scale: float | None = None
    time_unit: str = AUTO
    same_step: float = SAME_STEP  # seconds within which images of cameras that share no names were taken together
    skip_bad: bool = False  # images that cannot be read are named and left out


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The images, in the order of the reconstruction, and what is known of them."""

    folder: Path | None  # the names of the images are files below it; None where some are in memory
    photographs: tuple[Photograph, ...]
    sizes: Mapping[str, tuple[int, int]]  # height, width of the upright originals, by name
    known: Known
    truth: Reconstruction | None  # cameras as a data set has them, to compare with; None for photographs
    notes: tuple[str, ...]  # what was used, a sentence each
    left_out: tuple[LeftOut, ...]  # images that cannot be read, and why

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """In the order of the photographs."""
        return [self.sizes[photograph.name] for photograph in self.photographs]


def read_inputs(options: InputOptions, out: Path) -> Inputs:
    """Finds the images, and reads what is known of them. Frames of videos and scenes of data sets are written to
    <out>/images, masks of data sets to <out>/masks; of photographs nothing is written.

    Raises:
        ValueError: names the file, the value, the rule and the remedy.
    """
    _check_options(options)
    rig = read_rig(options.rig) if options.rig else None
    listed = _listed(options, out, [camera.name for camera in rig.cameras] if rig else [])
    photographs, times, notes = listed.photographs, listed.known.times, list(listed.notes)
    if options.times is not None:
        times, more = read_times(options.times, photographs, options.time_unit)
        notes += more
    if not options.source:  # sources have steps of their own
        photographs, more = with_steps(photographs, times, options.same_step)
        notes += more
    chosen = [image for number, image in enumerate(photographs) if _order(image, number) % options.every == 0]
    sizes, bad = usable(chosen, options.skip_bad)
    chosen = tuple(image for image in chosen if image.name in sizes)
    knowledge, more = _with_files(options, rig, chosen, sizes, dataclasses.replace(listed.known, times=times))
    _check_sizes(chosen, sizes, knowledge)
    notes += more
    left_out = (*listed.left_out, *bad)
    if left_out:
        notes += [f"{len(left_out)} left out:", *(entry.reason for entry in left_out[:_NAMED])]
        notes += [f"and {len(left_out) - _NAMED} more"] if len(left_out) > _NAMED else []
    return Inputs(listed.folder, chosen, sizes, knowledge, listed.truth, tuple(notes), left_out)


@dataclasses.dataclass(frozen=True)
class _Listed:
    """All images of the inputs, and what comes with them."""

    folder: Path
    photographs: Sequence[Photograph]
    notes: Sequence[str]
    known: Known = dataclasses.field(default_factory=Known)
    truth: Reconstruction | None = None
    left_out: Sequence[LeftOut] = ()


def _check_options(options: InputOptions) -> None:
    if options.every < 1:
        raise ValueError(f"--every={options.every} must be at least 1")
    videos.check_fps(options.fps)
    check_time_unit(options.time_unit)
    if unknown := sorted(set(options.given) - {POSES}):
        raise ValueError(f"--given {unknown[0]}: must be {POSES}")
    if (options.given or options.scene) and not options.source:
        raise ValueError("--given and --scene are of data sets; name the kind by --source, or give files by --poses")


def _order(photograph: Photograph, number: int) -> int:
    return number if photograph.step is None else photograph.step


def _listed(options: InputOptions, out: Path, prefixes: Sequence[str]) -> _Listed:
    if options.source:
        read = read_source(options.source, options.inputs, out, options.scene)
        knowledge, note = read.known, f"poses are compared with, not given (--given {POSES})"
        if read.truth is None:
            note = "the data set has no poses of these images to compare with"
            if POSES in options.given:
                raise ValueError(f"--given {POSES}: {note}; give a file by --poses, or none")
        elif POSES in options.given:
            poses = {image.name: image.world_from_camera for image in read.truth.images}
            knowledge = dataclasses.replace(knowledge, world_from_camera=poses)
            note = f"poses of {len(poses)} images, given"
        return _Listed(out / "images", read.photographs, (*read.notes, note), knowledge, read.truth, read.left_out)
    notes: list[str] = []
    films, others = _films(expand(options.inputs), notes)
    if not films:
        folder, photographs = find_photographs(others, prefixes, notes)
        return _Listed(folder, photographs, notes)
    frames = videos.write_frames(films, out / "images", options.fps, options.skip_bad)
    photographs = list(frames.photographs)
    if others:
        photographs += _copied(find_photographs(others, prefixes, notes)[1], out / "images", photographs)
    times = f"times of {len(frames.times)} of {len(photographs)} images: seconds since the first of their video"
    notes += [*frames.notes, times]
    return _Listed(out / "images", photographs, notes, Known(times=frames.times), left_out=frames.bad)


def _films(paths: Sequence[Path], notes: list[str]) -> tuple[list[Path], list[Path]]:
    """The videos among files and folders, and the others; of a folder with images and videos the images are taken."""
    films, others = [], []
    for path in paths:
        if not path.is_dir():
            (films if path.suffix.lower() in videos.SUFFIXES else others).append(path)
            continue
        files = [path / name for name in glob.iglob("**/*", root_dir=path, recursive=True)]
        inside = sorted(
            (one for one in files if one.suffix.lower() in videos.SUFFIXES), key=lambda one: natural(str(one))
        )
        if inside and not any(one.suffix.lower() in SUFFIXES for one in files):
            films += inside
            continue
        others.append(path)
        if inside:
            notes.append(f"{path}: its {len(inside)} videos are left out, its images taken; name videos to take them")
    return films, others


def _copied(photographs: Sequence[Photograph], folder: Path, taken: Sequence[Photograph]) -> list[Photograph]:
    """Photographs beside the frames of videos, so that all are below one folder. ValueError for a name twice."""
    names = {one.name for one in taken}
    copies = []
    for one in photographs:
        if one.name in names:
            raise ValueError(f"{one.path}: has the name of a video's frame, {one.name}; rename its folder")
        target = folder / one.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.path, target)
        copies.append(dataclasses.replace(one, path=target))
    return copies


def _with_files(
    options: InputOptions,
    rig: RigCalibration | None,
    photographs: Sequence[Photograph],
    sizes: Mapping[str, tuple[int, int]],
    knowledge: Known,
) -> tuple[Known, list[str]]:
    """What came with the images and, before it, what the user's files say; and notes on those."""
    notes: list[str] = []
    if rig is not None:
        notes += rig_notes(rig, options.rig, photographs)
        knowledge = dataclasses.replace(knowledge, rig=rig)
    if options.cameras is not None:
        by_exif = str(options.cameras) == EXIF
        lenses, more = exif_lenses(photographs, sizes) if by_exif else read_lenses(options.cameras, photographs)
        knowledge, notes = dataclasses.replace(knowledge, lenses={**knowledge.lenses, **lenses}), notes + more
    if options.poses is not None:
        times, calibration = knowledge.times, knowledge.rig
        poses, unit, more = read_poses(options.poses, photographs, times, calibration, time_unit=options.time_unit)
        knowledge, notes = dataclasses.replace(knowledge, world_from_camera=poses, pose_unit=unit), notes + more
    if options.masks is not None:
        masks, more = find_masks(options.masks, photographs, sizes)
        knowledge, notes = dataclasses.replace(knowledge, masks={**knowledge.masks, **masks}), notes + more
    if options.scale is not None:
        knowledge = dataclasses.replace(knowledge, scale=options.scale)
        notes = [*notes, f"scale {options.scale:g}, given"]
    return knowledge, notes


def _check_sizes(photographs: Sequence[Photograph], sizes: Mapping[str, tuple[int, int]], knowledge: Known) -> None:
    """ValueError for an image that its lens is not for."""
    for photograph in photographs:
        camera = calibration_of(knowledge, photograph)
        if camera is not None:
            check_size(photograph, sizes[photograph.name], camera)
