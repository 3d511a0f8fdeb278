"""Recordings of the TUM RGB-D benchmark: one hand-held camera, dense depth, poses of a motion-capture system.

The root is one recording or a folder of them; a recording holds `rgb.txt`, `depth.txt` and `groundtruth.txt`. Times
of colour, depth and poses differ and are matched by nearness; recordings of other tools may have them in ms, us or ns.
Depth images are registered to colour. The lenses of freiburg1 and freiburg2 bend their images, by 5 pixels in the
median, 33 and 27 in the farthest corner; those of freiburg3 are undistorted.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

import rig3r_jax  # by which an annotation below is read; its schema imports JAX
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, Scene
from rig3r_jax.data.source import Scenes, bad_scene
from rig3r_jax.data.sources.rgbd import DepthCode, RgbdFrame, RgbdSource, single_camera_scene
from rig3r_jax.formats import tum
from rig3r_jax.formats.times import AUTO, check_time_unit

# fx, fy, cx, cy as the benchmark's site gives them: pixels of 640x480 images, the centre of the first pixel at 0.
INTRINSICS = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
# k1, k2, p1, p2, k3, likewise.
DISTORTION = {
    "freiburg1": (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "freiburg2": (0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "freiburg3": (0.0, 0.0, 0.0, 0.0, 0.0),
}
_NAME = re.compile(r"(?:^|[^a-z0-9])(?:freiburg|fr)([123])(?:$|[^a-z0-9])", re.IGNORECASE)
_BY_NAME = "by_name"
_SIZE = (480, 640)  # height, width for which INTRINSICS hold
_WITHIN = 0.02  # seconds between an image and its depth (less than) or its pose (at most)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recording:
    """The images of a recording that have a depth image and a pose, by time, and those that have not."""

    folder: Path
    times: Float[np.ndarray, " n"]  # seconds, of the colour images
    images: tuple[str, ...]  # below `folder`
    depths: tuple[str, ...]  # () where the recording has no depth
    world_from_camera: Float[np.ndarray, "n 4 4"]
    without_depth: int
    without_pose: int  # of those that have depth
    left_out: tuple[LeftOut, ...] = ()  # these, and what else the lists name that cannot be used
    unused_poses: tuple[str, ...] = ()  # why rows of groundtruth.txt are no pose
    time_units: dict[str, str] = dataclasses.field(default_factory=dict)  # of the lists, by file

    def __str__(self) -> str:
        listed = len(self.images) + self.without_depth + self.without_pose
        if self.images and not self.depths:
            return f"{self.folder}: no depth; {len(self.images)} of {listed} images have a pose within {_WITHIN} s"
        return (
            f"{self.folder}: {len(self.images)} of {listed} images have depth and pose ({self.without_depth} have no "
            f"depth under {_WITHIN} s away, {self.without_pose} no pose within {_WITHIN} s)"
        )


def read_recording(folder: str | Path, time_unit: str = AUTO) -> Recording:
    """Reads the lists, whose times are in `time_unit` (see `formats.times`), and no image; without depth.txt the
    recording has no depth.

    A row that cannot be used costs that row. ValueError naming file, line and rule where a list has no other rows.
    """
    folder = Path(folder)
    bad_rows: list[str] = []
    bad_poses: dict[int, str] = {}
    images = tum.read_file_list(folder / "rgb.txt", bad_rows, time_unit=time_unit)
    depths = _depth_list(folder, bad_rows, time_unit)
    trajectory = tum.read_trajectory(folder / "groundtruth.txt", bad_poses, time_unit=time_unit)
    lists = {"rgb.txt": images, "depth.txt": depths, "groundtruth.txt": trajectory}
    left_out = [LeftOut("a row", "row", reason) for reason in bad_rows]

    order = np.argsort(images.times, kind="stable")
    repeats = np.zeros(len(order), bool)
    repeats[order[1:]] = np.diff(images.times[order]) == 0
    depth_of = np.zeros(len(order), int)
    if depths is not None:
        depth_of = tum.nearest(images.times, depths.times, _WITHIN, strict=True)
    good = np.array([i for i in range(len(trajectory.times)) if i not in bad_poses])
    row_of = tum.nearest(images.times, trajectory.times[good], _WITHIN)
    nearest_row = tum.nearest(images.times, trajectory.times, _WITHIN)  # may be one that is no pose
    without_depth, without_pose = depth_of < 0, (depth_of >= 0) & (row_of < 0)
    for i in order:
        if without_depth[i]:
            reason = f"{folder}: {images.files[i]} has no depth image under {_WITHIN} s away"
            left_out.append(LeftOut(images.files[i], UNMATCHED, reason))
        elif without_pose[i] and nearest_row[i] >= 0:
            left_out.append(LeftOut(images.files[i], "pose", bad_poses[nearest_row[i]]))
        elif without_pose[i]:
            reason = f"{folder}: {images.files[i]} has no pose within {_WITHIN} s"
            left_out.append(LeftOut(images.files[i], UNMATCHED, reason))
        elif repeats[i]:
            reason = f"{folder / 'rgb.txt'}: {images.files[i]} repeats the time {float(images.times[i])!r}; remove it"
            left_out.append(LeftOut(images.files[i], "time", reason))
    kept = order[~(without_depth | without_pose | repeats)[order]]
    return Recording(
        folder=folder,
        times=images.times[kept],
        images=tuple(images.files[i] for i in kept),
        depths=() if depths is None else tuple(depths.files[i] for i in depth_of[kept]),
        world_from_camera=trajectory.world_from_camera[good[row_of[kept]]],
        without_depth=int(np.sum(without_depth)),
        without_pose=int(np.sum(without_pose)),
        left_out=tuple(left_out),
        unused_poses=tuple(bad_poses.values()),
        time_units={name: content.time_unit for name, content in lists.items() if content is not None},
    )


def _depth_list(folder: Path, bad_rows: list[str], time_unit: str) -> tum.FileList | None:
    """The list of depth images; None of a recording that has neither list nor depth images."""
    if (folder / "depth.txt").exists() or (folder / "depth").exists():
        return tum.read_file_list(folder / "depth.txt", bad_rows, time_unit=time_unit)
    return None


def stated_intrinsics(folder: str | Path, intrinsics: str | Sequence[float] = _BY_NAME) -> tuple[float, ...]:
    """fx, fy, cx, cy with the centre of the first pixel at 0, as the benchmark states them.

    Args:
        folder: the recording; its name tells the camera by a word freiburg1, freiburg2, freiburg3, fr1, fr2 or fr3.
        intrinsics: "by_name", or a key of INTRINSICS, or the four numbers themselves.

    Raises ValueError where the name tells nothing, or `intrinsics` is none of these.
    """
    if isinstance(intrinsics, str):
        return INTRINSICS[camera_of(folder, intrinsics)]
    if len(intrinsics) != 4 or not all(0 < value < math.inf for value in intrinsics):
        raise ValueError(f"intrinsics={intrinsics!r} must be fx, fy, cx, cy, positive numbers of pixels")
    return tuple(map(float, intrinsics))


def camera_of(folder: str | Path, intrinsics: str = _BY_NAME) -> str:
    """The key of INTRINSICS of a recording: `intrinsics` itself, or for "by_name" what the folder's name tells.

    Raises ValueError where it tells nothing, or `intrinsics` is neither.
    """
    if intrinsics not in INTRINSICS:
        if intrinsics != _BY_NAME:
            raise ValueError(
                f"intrinsics={intrinsics!r} must be {_BY_NAME}, {', '.join(INTRINSICS)} or [fx, fy, cx, cy]"
            )
        name = Path(folder).resolve().name
        match = _NAME.search(name)
        if not match:
            raise BadRecord(
                f"{folder}: the name {name!r} does not tell the camera (freiburg1, freiburg2, freiburg3); set "
                "intrinsics=freiburg3, say, or intrinsics=[fx,fy,cx,cy]"
            )
        return f"freiburg{match[1]}"
    return intrinsics


@dataclasses.dataclass(frozen=True)
class Tum(RgbdSource):
    """Options of TUM recordings; every one is cut by time into train, validation and test."""

    depth_scale: float = 5000.0  # of the benchmark's own files; those of other tools mostly hold millimetres: 1000
    intrinsics: str | tuple[float, ...] = _BY_NAME  # see `stated_intrinsics`; one that is given holds for all
    time_unit: str = AUTO  # of the lists: s, ms, us or ns, or what the times tell by their size

    VERSION = 2  # 1: images of freiburg1 and freiburg2 as those of pinholes
    root_holds = "a TUM recording or several"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if self.intrinsics != _BY_NAME:
            try:
                stated_intrinsics(self.root, self.intrinsics)
            except ValueError as error:
                yield str(error)
        try:
            check_time_unit(self.time_unit)
        except ValueError as error:
            yield str(error)

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a share of the frames."""
        _folders(self)
        return super().splits()

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for folder in _folders(self):
            try:
                loaders += _loaders_of(folder, split, self)
            except ValueError as error:  # one bad recording is one bad scene
                loaders.append(bad_scene(folder.resolve().name, str(error)))
        return loaders

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """See `Source`."""
        left_out = []
        for recording in self._recordings():
            name, reason = recording.folder.resolve().name, "has the depth image of the last one of the split before"
            shared = [i for split in self.splits() for i in _block(recording, split, self)[1]]
            left_out += [(name, entry) for entry in recording.left_out]
            for image in (recording.images[i] for i in shared):
                left_out.append((name, LeftOut(image, UNMATCHED, f"{recording.folder}: {image} {reason}")))
        return left_out

    def notes(self) -> list[str]:
        """Rows that are no pose."""
        return [
            f"{recording.folder}: rows of groundtruth.txt that are no pose: {len(poses)}, such as {poses[0]}"
            for recording in self._recordings()
            if (poses := recording.unused_poses)
        ]

    def _recordings(self) -> Iterator[Recording]:
        """Those that read; the others are bad scenes."""
        for folder in _folders(self):
            with contextlib.suppress(ValueError):
                yield read_recording(folder, self.time_unit)


def _folders(source: Tum) -> list[Path]:
    folder = source.folder()
    if (folder / "rgb.txt").is_file():
        return [folder]
    folders = sorted(path.parent for path in folder.glob("*/rgb.txt"))
    if not folders:
        raise BadRecord(f"{folder}: neither it nor a folder in it holds an rgb.txt; give the folder of TUM recordings")
    return folders


def _loaders_of(folder: Path, split: str, source: Tum) -> Scenes:
    stated_intrinsics(folder, source.intrinsics)  # refused here, before anything is loaded
    size = _SIZE if isinstance(source.intrinsics, str) else None
    recording = read_recording(folder, source.time_unit)
    code = DepthCode(source.depth_scale, unknown=(0,))
    source.check_depth([folder / name for name in recording.depths], code)
    if split == RgbdSource.splits(source)[0]:
        _tell_time_units(recording)
    block, _ = _block(recording, split, source)
    logger.info("%s: %d frames for %s", recording, len(block), split)
    name = folder.resolve().name
    if len(block) < source.min_frames:
        raise BadRecord(
            f"{recording}, {len(block)} frames are for {split}, must be at least {source.min_frames}; lower "
            "min_frames, gap or stride, change fractions, or leave this recording out"
        )
    return [
        (scene, functools.partial(_load, recording, scene, piece, source.intrinsics, code, size))
        for piece in source.pieces(block)
        if (scene := f"{name}_{piece[0] // source.stride:05d}")
    ]


def _block(recording: Recording, split: str, source: Tum) -> tuple[range, range]:
    """The images of a split, by number, without those that share a depth image with the split before; and these."""
    chosen = range(0, len(recording.images), source.stride)
    block = source.block(len(chosen), split)
    start, depths = block.start, recording.depths
    while depths and start and start < block.stop and depths[chosen[start]] == depths[chosen[start - 1]]:
        start += 1
    return chosen[start : block.stop], chosen[block.start : start]


def _tell_time_units(recording: Recording) -> None:
    """One line where times were converted."""
    if converted := [f"{file} in {unit}" for file, unit in recording.time_units.items() if unit != "s"]:
        logger.warning(
            "%s: times of %s are converted to seconds; set time_unit if they are of another unit",
            recording.folder,
            ", ".join(converted),
        )


def _load(
    recording: Recording,
    name: str,
    frames: Sequence[int],
    intrinsics: str | tuple[float, ...],
    code: DepthCode,
    size: tuple[int, int] | None,
) -> Scene:
    rgbd_frames = [
        RgbdFrame(
            time=float(recording.times[i]),
            image=recording.folder / recording.images[i],
            depth=recording.folder / recording.depths[i] if recording.depths else None,
            world_from_camera=recording.world_from_camera[i],
        )
        for i in frames
    ]
    lens = _lens(recording.folder, intrinsics)
    scene = single_camera_scene(name, rgbd_frames, lambda _: (lens, None), code)
    if size is not None and scene.cameras[0].size != size:
        raise BadRecord(
            f"{rgbd_frames[0].image}: is {scene.cameras[0].size}, the benchmark's intrinsics are for {size} "
            "(height, width); set intrinsics=[fx,fy,cx,cy] of these images"
        )
    return scene


def _lens(folder: Path, intrinsics: str | tuple[float, ...]) -> "rig3r_jax.schema.LensLike":
    """Of a recording; pixel centres at 0.5 from here on."""
    from rig3r_jax.geometry.camera import Brown, Pinhole  # imports JAX: not where options are read

    fx, fy, cx, cy = stated_intrinsics(folder, intrinsics)
    matrix = np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])
    distortion = DISTORTION[camera_of(folder, intrinsics)] if isinstance(intrinsics, str) else (0.0,)
    return Brown(matrix, np.array(distortion)) if any(distortion) else Pinhole(matrix)
