"""Recordings of 7-Scenes: one hand-held Kinect, dense depth, poses of KinectFusion.

A sequence is a folder of `frame-XXXXXX.color.png` (or .jpg), `.depth.png` and `.pose.txt` (world_from_camera). The root
is a sequence, or a scene (`seq-01/`, ..., `TrainSplit.txt`, `TestSplit.txt`), or a folder of scenes. The data set has
no clock: times are frame numbers at 30 Hz. It does not align depth with colour either; its poses are those of the depth
camera, so that both are a few pixels apart in the official files.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.sources.rgbd import SPLITS, Cut, DepthCode, RgbdFrame, single_camera_scene

VERSION = 1
_TRAIN, _VALIDATION, _TEST = SPLITS
_FRAME = re.compile(r"frame-(\d+)\.color\.(?:png|jpg)")
_SEQUENCE = re.compile(r"sequence\s*(\d+)", re.IGNORECASE)
_LISTS = {_TRAIN: "TrainSplit.txt", _TEST: "TestSplit.txt"}
_RATE = 30.0  # frames per second
_DEPTH = DepthCode(units_per_metre=1000.0, unknown=(0, 65535))
_INTRINSICS_FILE = "camera-intrinsics.txt"
_ROTATION_TOLERANCE = 1e-2  # the files' rotations are orthonormal to 4e-4


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """One folder of frames and the splits that it is cut into."""

    name: str
    folder: Path
    scene: Path  # folder that may hold the intrinsics for all its sequences
    fractions: tuple[float, ...]  # of train, validation and test


def splits(root: str, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), **options: object) -> tuple[str, ...]:
    """Names of the splits that have a share of the frames. BadRecord where the folder holds no data set."""
    del options
    Cut(fractions, gap=0, stride=1, window=1, min_frames=1)  # refuses what are no shares
    found = [sequence.fractions for sequence in _sequences(root, fractions)]
    return tuple(split for split, shares in zip(SPLITS, zip(*found, strict=True), strict=True) if max(shares) > 0)


def scene_loaders(
    root: str,
    split: str,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    gap: int = 0,
    stride: int = 1,
    window: int = 64,
    min_frames: int = 8,
) -> list[tuple[str, Callable[[], Scene]]]:
    """A loader for every scene of a split; sequences are cut into scenes of at most `window` frames.

    Where a scene has official lists, its test sequences are the test split, and the end of each training sequence is
    the validation split, by the ratio of the first two `fractions`. Other sequences are cut by all three.

    Args:
        root: folder of a sequence, of a scene or of scenes.
        split: one of `splits(root)`.
        fractions: shares of train, validation and test, in this order of time.
        gap: frames left out between two splits of a sequence, so that neighbours are less alike.
        stride: takes every n-th frame.
        window: frames per scene at most; a record is read as a whole. Splits are cut into scenes of equal length.
        min_frames: a sequence with fewer frames in this split is a bad scene.

    Raises:
        ValueError: options that cannot hold together.
        BadRecord: a folder without sequences, lists that do not hold together, or a split that has no share.
    """
    Cut(fractions, gap, stride, window, min_frames)  # refuses bad options before any work
    known = splits(root, fractions=fractions)
    if split not in known:
        raise BadRecord(f"{root}: has no split {split!r}; it has {', '.join(known)}")
    loaders: list[tuple[str, Callable[[], Scene]]] = []
    for sequence in _sequences(root, fractions):
        if sequence.fractions[SPLITS.index(split)] > 0:
            loaders += _loaders_of(sequence, split, Cut(sequence.fractions, gap, stride, window, min_frames))
    return loaders


def _sequences(root: str, fractions: Sequence[float]) -> list[_Sequence]:
    folder = Path(root)
    if not folder.is_dir():
        raise BadRecord(f"{root}: data folder does not exist; give the folder of 7-Scenes, of a scene or a sequence")
    shares = tuple(fractions)
    if _is_sequence(folder):
        return [_Sequence(folder.resolve().name, folder, folder.parent, shares)]
    if _is_scene(folder):
        return _sequences_of_scene(folder, shares)
    scenes = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [sequence for path in scenes if _is_scene(path) for sequence in _sequences_of_scene(path, shares)]
    found += [_Sequence(path.name, path, folder, shares) for path in scenes if _is_sequence(path)]
    if not found:
        raise BadRecord(
            f"{root}: holds no frame-XXXXXX.color.png and no folder that does; give the folder of 7-Scenes, of a "
            "scene or a sequence, and unpack the seq-XX.zip files first"
        )
    return found


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
    try:
        lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{file}: cannot be read ({error}); restore the file") from error
    for line in lines:
        match = _SEQUENCE.fullmatch(line)
        if not match:
            raise BadRecord(f"{file}: line {line!r} must be of the form sequence1; restore the file")
        folders.append(file.parent / f"seq-{int(match[1]):02d}")
    if not folders:
        raise BadRecord(f"{file}: lists no sequence; restore the file")
    return folders


def _loaders_of(sequence: _Sequence, split: str, cut: Cut) -> list[tuple[str, Callable[[], Scene]]]:
    images = _images(sequence.folder)
    numbers = sorted(images)[:: cut.stride]
    block = cut.block(len(numbers), split)
    if len(block) < cut.min_frames:
        return [(sequence.name, functools.partial(_too_short, sequence.folder, split, len(block), cut.min_frames))]
    loaders = []
    for piece in cut.scenes(block):
        chosen = {numbers[i]: images[numbers[i]] for i in piece}
        name = f"{sequence.name}_{numbers[piece[0]]:06d}"
        loaders.append((name, functools.partial(_load, sequence, name, chosen)))
    return loaders


def _images(folder: Path) -> dict[int, Path]:
    """Colour images by frame number; of a PNG and a JPEG of one frame the PNG. {} where there is no folder."""
    found = {}
    for path in sorted(folder.glob("frame-*.color.*")):  # .jpg before .png
        if match := _FRAME.fullmatch(path.name):
            found[int(match[1])] = path
    return found


def _too_short(folder: Path, split: str, count: int, min_frames: int) -> Scene:
    packed = folder.with_suffix(".zip")
    if not count and packed.is_file():
        raise BadRecord(f"{folder}: holds no frames; unpack {packed.name}")
    raise BadRecord(
        f"{folder}: has {count} frames for {split}, must be at least {min_frames}; restore the folder, lower "
        "min_frames, gap or stride, or change fractions"
    )


def _load(sequence: _Sequence, name: str, images: dict[int, Path]) -> Scene:
    frames = []
    for number, image in images.items():
        stem = image.name.split(".")[0]
        frames.append(
            RgbdFrame(
                time=number / _RATE,
                image=image,
                depth=image.with_name(f"{stem}.depth.png"),
                world_from_camera=read_world_from_camera(image.with_name(f"{stem}.pose.txt")),
            )
        )
    return single_camera_scene(name, frames, _read_intrinsics(sequence), _DEPTH)


def read_world_from_camera(path: Path) -> Float[np.ndarray, "4 4"]:
    """The transform of a .pose.txt, its rotation moved to the nearest one of SO(3) (it is off by up to 4e-4).

    BadRecord, naming the file, for what is no transform.
    """
    matrix = _read_matrix(path, (4, 4))
    rotation = matrix[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if not error < _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0 or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise BadRecord(
            f"{path}: {matrix.tolist()} is no rigid transform (columns off orthonormal by {error:.3g}, must be under "
            f"{_ROTATION_TOLERANCE}; determinant positive; last row 0 0 0 1); restore the file"
        )
    u, _, vt = np.linalg.svd(rotation)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = u @ vt
    world_from_camera[:3, 3] = matrix[:3, 3]
    return world_from_camera


def _read_intrinsics(sequence: _Sequence) -> np.ndarray:
    """Of the sequence's or the scene's file, else the data set's: 585, 585, 320, 240.

    320, 240 is the middle of the image where the centre of the first pixel is at 0.5, as it is in this package.
    """
    for folder in (sequence.folder, sequence.scene):
        if (folder / _INTRINSICS_FILE).is_file():
            return _read_matrix(folder / _INTRINSICS_FILE, (3, 3))
    return np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])


def _read_matrix(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        values = np.array([float(word) for word in path.read_text().split()])
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    except ValueError as error:
        raise BadRecord(f"{path}: does not read ({error}); restore the file") from error
    if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
        raise BadRecord(f"{path}: {values.tolist()} must be {shape[0]} x {shape[1]} finite numbers; restore the file")
    return values.reshape(shape)
