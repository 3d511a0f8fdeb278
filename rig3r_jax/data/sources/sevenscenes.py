"""Recordings of 7-Scenes: one hand-held Kinect, dense depth, poses of KinectFusion.

A sequence is a folder of `frame-XXXXXX.color.png` (or .jpg), `.depth.png` and `.pose.txt` (world_from_camera). The root
is a sequence, or a scene (`seq-01/`, ..., `TrainSplit.txt`, `TestSplit.txt`), or a folder of scenes. The data set has
no clock: times are frame numbers at 30 Hz.

Colour and depth are two cameras (see `sevenscenes_cameras`); depth is brought into the colour camera here.
"""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

import rig3r_jax  # by which an annotation below is read; its schema imports JAX
from rig3r_jax.data.files import read_numbers, read_text
from rig3r_jax.data.scene import BadRecord, LeftOut, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, bad_scene
from rig3r_jax.data.sources.cut_by_time import SPLITS
from rig3r_jax.data.sources.registration import Registration
from rig3r_jax.data.sources.rgbd import DepthCode, RgbdFrame, RgbdSource, single_camera_scene
from rig3r_jax.data.sources.sevenscenes_cameras import KinectCameras
from rig3r_jax.formats.text import numbered_lines
from rig3r_jax.geometry import rigid

_TRAIN, _VALIDATION, _TEST = SPLITS
_FRAME = re.compile(r"frame-(\d+)\.color\.(?i:png|jpe?g)")
_SEQUENCE = re.compile(r"(?:seq(?:uence)?[\s_-]*)?(\d{1,6})", re.IGNORECASE)  # sequence1; also as its folder is named
_LISTS = {_TRAIN: "TrainSplit.txt", _TEST: "TestSplit.txt"}
_RATE = 30.0  # frames per second
_UNKNOWN = (0, 65535)  # depths
_ROTATION_TOLERANCE = 1e-2  # the files' rotations are orthonormal to 4e-4
_LAST_ROW_TOLERANCE = 1e-6  # of its entries


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """One folder of frames and the splits that it is cut into."""

    name: str
    folder: Path
    scene: Path  # folder that may hold the intrinsics for all its sequences
    fractions: tuple[float, ...]  # of train, validation and test


@dataclasses.dataclass(frozen=True)
class SevenScenes(KinectCameras, RgbdSource):
    """Options of 7-Scenes: a sequence, a scene or several.

    Where a scene has official lists, its test sequences are the test split, and the end of each training sequence is
    the validation split, by the ratio of the first two `fractions`. Other sequences are cut by all three.
    """

    root_holds = "7-Scenes, a scene or a sequence of it"
    VERSION = 2

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a share of the frames of any sequence."""
        shares = zip(*(sequence.fractions for sequence in _sequences(self)), strict=True)
        return tuple(split for split, of_sequences in zip(SPLITS, shares, strict=True) if max(of_sequences) > 0)

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for sequence in _sequences(self):
            if sequence.fractions[SPLITS.index(split)] > 0:
                loaders += _loaders_of(sequence, split, dataclasses.replace(self, fractions=sequence.fractions))
        return loaders

    def notes(self) -> list[str]:
        """Sequences that are not unpacked."""
        folder = self.folder()
        archives = sorted([*folder.glob("seq-*.zip"), *folder.glob("*/seq-*.zip")])
        packed = [path for path in archives if not path.with_suffix("").is_dir()]
        return [f"{len(packed)} sequences are packed and not read, such as {packed[0]}: unpack them"] if packed else []


def _sequences(source: SevenScenes) -> list[_Sequence]:
    folder, shares = source.folder(), source.fractions
    if _is_sequence(folder):
        return [_Sequence(folder.resolve().name, folder, folder.parent, shares)]
    if _is_scene(folder):
        return _sequences_of_scene(folder, shares)
    scenes = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    sequences = [sequence for path in scenes if _is_scene(path) for sequence in _sequences_of_scene(path, shares)]
    sequences += [_Sequence(path.name, path, folder, shares) for path in scenes if _is_sequence(path)]
    if not sequences:
        raise BadRecord(
            f"{folder}: holds no frame-XXXXXX.color.png and no folder that does; give the folder of 7-Scenes, of a "
            "scene or a sequence, and unpack the seq-XX.zip files first"
        )
    return sequences


def _is_sequence(folder: Path) -> bool:
    return any(_FRAME.fullmatch(path.name) for path in folder.glob("frame-*.color.*"))


def _is_scene(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _LISTS.values()) or any(folder.glob("seq-*/frame-*.color.*"))


def _sequences_of_scene(scene: Path, fractions: tuple[float, ...]) -> list[_Sequence]:
    """Sequences of a scene by its official lists, or all of them, cut by `fractions`, where it has none."""
    name = scene.resolve().name

    def sequence(folder: Path, shares: tuple[float, ...]) -> _Sequence:
        return _Sequence(f"{name}_{folder.name}", folder, scene, shares)

    listed = {split: _listed(scene / file) for split, file in _LISTS.items() if (scene / file).is_file()}
    if not listed:
        return [sequence(path, fractions) for path in sorted(scene.glob("seq-*")) if path.is_dir()]
    missing = [file for split, file in _LISTS.items() if split not in listed]
    if missing:
        raise BadRecord(f"{scene}: has no {missing[0]} beside its other list; restore the file, or remove both")
    common = sorted({path.name for path in listed[_TRAIN]} & {path.name for path in listed[_TEST]})
    if common:
        raise BadRecord(f"{scene}: lists {', '.join(common)} for training and for testing; correct the lists")
    kept = fractions[0] + fractions[1]
    training = (fractions[0] / kept, fractions[1] / kept, 0.0) if kept else (1.0, 0.0, 0.0)
    return [sequence(path, training) for path in listed[_TRAIN]] + [
        sequence(path, (0.0, 0.0, 1.0)) for path in listed[_TEST]
    ]


def _listed(file: Path) -> list[Path]:
    folders = []
    for number, line in numbered_lines(read_text(file)):
        for word in [] if line.startswith("#") else line.split(","):
            match = _SEQUENCE.fullmatch(word.strip())
            if not match:
                raise BadRecord(f"{file}: line {number} {line!r} must be of the form sequence1; restore the file")
            folders.append(file.parent / f"seq-{int(match[1]):02d}")
    if not folders:
        raise BadRecord(f"{file}: lists no sequence; restore the file")
    return folders


def _loaders_of(sequence: _Sequence, split: str, source: SevenScenes) -> Scenes:
    """Of a split of one sequence; `source` has the sequence's own shares."""
    images = _images(sequence.folder)
    numbers = sorted(images)[:: source.stride]
    block = source.block(len(numbers), split)
    if len(block) < source.min_frames:
        return [bad_scene(sequence.name, _too_short(sequence.folder, split, len(block), source.min_frames))]
    try:
        source.check_depth([_depth_file(images[numbers[i]]) for i in block], _code(source))
    except BadRecord as error:
        return [bad_scene(sequence.name, str(error))]
    loaders = []
    for piece in source.pieces(block):
        chosen = {numbers[i]: images[numbers[i]] for i in piece}
        name = f"{sequence.name}_{numbers[piece[0]]:06d}"
        loaders.append((name, functools.partial(_load, source, sequence, name, chosen)))
    return loaders


def _code(source: SevenScenes) -> DepthCode:
    return DepthCode(source.depth_scale, _UNKNOWN)


def _beside(image: Path, suffix: str) -> Path:
    """The depth image or the pose of a colour image."""
    return image.with_name(f"{image.name.split('.')[0]}.{suffix}")


def _images(folder: Path) -> dict[int, Path]:
    """Colour images by frame number; of a PNG and a JPEG of one frame the PNG. {} where there is no folder."""
    images = {}
    for path in sorted(folder.glob("frame-*.color.*")):  # .jpg before .png
        if match := _FRAME.fullmatch(path.name):
            images[int(match[1])] = path
    return images


def _depth_file(image: Path) -> Path:
    """The depth image of a colour image; its suffix may be in capitals too."""
    path = _beside(image, "depth.png")
    capital = path.with_suffix(".PNG")
    return capital if capital.is_file() and not path.is_file() else path


def _too_short(folder: Path, split: str, count: int, min_frames: int) -> str:
    packed = folder.with_suffix(".zip")
    if not count and packed.is_file():
        return f"{folder}: holds no frames; unpack {packed.name}"
    return (
        f"{folder}: has {count} frames for {split}, must be at least {min_frames}; restore the folder, lower "
        "min_frames, gap or stride, or change fractions"
    )


def _load(source: SevenScenes, sequence: _Sequence, name: str, images: dict[int, Path]) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    frames: list[RgbdFrame] = []
    left_out: list[LeftOut] = []
    with_depth = any(path.suffix.lower() == ".png" for path in sequence.folder.glob("frame-*.depth.*"))
    for number, image in images.items():
        with leaving_out(left_out, image.name), about("pose"):
            frames.append(
                RgbdFrame(
                    time=number / _RATE,
                    image=image,
                    depth=_depth_file(image) if with_depth else None,
                    world_from_camera=read_world_from_camera(_beside(image, "pose.txt")),
                )
            )

    def cameras(size: tuple[int, int]) -> tuple["rig3r_jax.schema.LensLike", Registration | None]:
        intrinsics, registration = source.cameras((sequence.folder, sequence.scene), size)
        return Pinhole(intrinsics), registration

    return single_camera_scene(name, frames, cameras, _code(source), left_out)


def read_world_from_camera(path: Path) -> Float[np.ndarray, "4 4"]:
    """The transform of a .pose.txt, its rotation moved to the nearest one of SO(3) (it is off by up to 4e-4).

    BadRecord, naming the file, for what is no transform.
    """
    matrix = read_numbers(path, (4, 4))
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() <= _LAST_ROW_TOLERANCE:
        matrix[3] = [0, 0, 0, 1]
    return rigid.nearest_rigid(rigid.check(matrix, str(path), BadRecord, _ROTATION_TOLERANCE))
