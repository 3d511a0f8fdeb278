"""Frames of videos as photographs: read by PyAV (the extra `video`), turned upright, written as JPEG."""

import dataclasses
import itertools
import typing
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from rig3r_jax.data.scene import BadRecord, LeftOut
from rig3r_jax.data.sources.recorded_rig import steps_by_time
from rig3r_jax.extras import lack_of
from rig3r_jax.inference.photographs import Photograph

if typing.TYPE_CHECKING:
    import av

SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".3gp", ".ogv",
    ".flv",
)  # fmt: skip
USUAL_FPS = 2.0
_MOST_FPS = 1000.0
_QUALITY = 97  # of JPEG


@dataclasses.dataclass(frozen=True)
class Video:
    """What the header of a video says."""

    path: Path
    size: tuple[int, int]  # height, width as stored
    rate: float  # frames per second, in the mean
    seconds: float | None  # None: not stated


@dataclasses.dataclass(frozen=True)
class VideoFrames:
    """The frames that were written."""

    photographs: tuple[Photograph, ...]  # by step and video; the camera of each is its video
    times: dict[str, float]  # seconds since the first frame of its video, by name
    notes: tuple[str, ...]
    bad: tuple[LeftOut, ...]  # videos, or ends of them, that do not decode


def camera_names(videos: Sequence[Path]) -> list[str]:
    """A name for the camera of each video: its file's without suffix, then _2 and so on where that is taken."""
    names: list[str] = []
    for video in videos:
        numbered = (f"{video.stem}_{number}" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([video.stem], numbered) if name not in names))
    return names


def probe(path: Path) -> Video:
    """What the header says; BadRecord naming the file where it is no video."""
    with _opened(path) as container:
        stream = _stream(path, container)
        rate = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
        seconds = stream.duration and float(stream.duration * stream.time_base)
        seconds = seconds or (container.duration and container.duration / 1e6)
        return Video(path, (stream.height, stream.width), rate, seconds or None)


def check_fps(fps: float | None) -> None:
    """ValueError for frames per second that no video is read at."""
    if fps is not None and not 0 < fps <= _MOST_FPS:
        raise ValueError(f"--fps={fps} must be above 0, at most {_MOST_FPS:g} frames per second")


def write_frames(
    videos: Sequence[Path], folder: Path, fps: float | None = USUAL_FPS, skip_bad: bool = False
) -> VideoFrames:
    """Writes frames as <folder>/<video>/<number>.jpg, upright; the number is that of the frame in its video, from 0.

    With `fps` the frames nearest to every 1 / fps seconds after the first one, which are of one time step over all
    videos; without, all frames, and those of different videos within half a frame's time are of one step.

    Raises:
        ValueError: a rate that cannot be.
        BadRecord: a video that does not decode, unless `skip_bad`; always where nothing is left.
    """
    check_fps(fps)
    photographs, times, notes, bad = [], {}, [], []
    rates = []
    for video, camera in zip(videos, camera_names(videos), strict=True):
        written = []
        try:
            header = probe(video)
            (folder / camera).mkdir(parents=True)
            for number, seconds, step, image in _upright_frames(video, fps):
                photograph = _write(folder, camera, number, step, image)
                times[photograph.name] = seconds
                written.append(photograph)
        except BadRecord as error:
            if not skip_bad:
                raise
            bad.append(LeftOut(video.name, "image", str(error)))
        if written:
            rates.append(header.rate)
            notes.append(_note(header, camera, len(written), times[written[-1].name], fps))
        photographs += written
    if not photographs:
        raise BadRecord(bad[0].reason)
    if fps is None:
        taken = [(photograph.camera, times[photograph.name]) for photograph in photographs]
        steps = steps_by_time(taken, 0.5 / max(rates))
        photographs = [dataclasses.replace(one, step=step) for one, step in zip(photographs, steps, strict=True)]
    in_order = sorted(photographs, key=lambda one: (one.step, one.name))
    return VideoFrames(tuple(in_order), times, tuple(notes), tuple(bad))


def _note(header: Video, camera: str, count: int, seconds: float, fps: float | None) -> str:
    chosen = "all" if fps is None else f"{fps:g} per second"
    height, width = header.size
    text = f"{header.path.name}: {count} frames ({chosen}) of {seconds:.1f} s, {width} x {height}, as camera {camera}"
    lacks = (header.seconds or 0.0) - seconds - 2 / min(fps or header.rate, header.rate)
    return text + (f"; it breaks off, its header says {header.seconds:.1f} s" if lacks > 0 else "")


def _write(folder: Path, camera: str, number: int, step: int, image: UInt8[np.ndarray, "h w 3"]) -> Photograph:
    """A frame, B G R, as a file."""
    import cv2

    name = f"{camera}/{number:06d}.jpg"
    (folder / name).write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())
    return Photograph(folder / name, name, camera, step)


def _opened(path: Path) -> "av.container.InputContainer":
    if lack := lack_of(("av",)):
        raise ValueError(f"{path}: a video {lack}")
    import av

    if not path.is_file():
        raise BadRecord(f"{path}: there is no such file; correct its name")
    try:
        # A relative name with a colon would be a protocol; titles and the like may be of any encoding.
        return av.open(str(path.absolute()), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise BadRecord(f"{path}: is no video that opens ({_reason(error)}); restore it or leave it out") from error


def _stream(path: Path, container: "av.container.InputContainer") -> "av.video.stream.VideoStream":
    pictures = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not pictures or not pictures[0].width:
        raise BadRecord(f"{path}: holds no film, only {_kinds(container)}; leave it out")
    return pictures[0]


def _kinds(container: "av.container.InputContainer") -> str:
    return ", ".join(dict.fromkeys(stream.type for stream in container.streams)) or "nothing"


def _upright_frames(path: Path, fps: float | None) -> Iterator[tuple[int, float, int, UInt8[np.ndarray, "h w 3"]]]:
    """Number, seconds since the first frame, step and pixels (B G R) of the frames that are taken."""
    decoded = _decoded(path)
    chosen = ((number, t, number, frame) for number, t, frame in decoded) if fps is None else _nearest(decoded, fps)
    for number, seconds, step, frame in chosen:
        yield number, seconds, step, _turned(frame.to_ndarray(format="bgr24"), _display_matrix(frame))


def _decoded(path: Path) -> Iterator[tuple[int, float, "av.VideoFrame"]]:
    """Number, seconds since the first frame, and frame, in the order of showing; BadRecord where it breaks off."""
    import av

    with _opened(path) as container:
        stream = _stream(path, container)
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        start, seconds, number = None, 0.0, -1
        try:
            for number, frame in enumerate(container.decode(stream)):
                time = number / float(rate) if frame.time is None else frame.time
                start = time if start is None else start
                seconds = time - start
                yield number, seconds, frame
        except (av.error.FFmpegError, OSError) as error:
            after = f"after {seconds:.1f} s" if number >= 0 else "at all"
            raise BadRecord(
                f"{path}: does not decode {after} ({_reason(error)}); restore it or leave it out"
            ) from error
        if number < 0:
            raise BadRecord(f"{path}: has no frame that decodes; restore it or leave it out")


def _nearest(
    frames: Iterator[tuple[int, float, "av.VideoFrame"]], fps: float
) -> Iterator[tuple[int, float, int, "av.VideoFrame"]]:
    """The frames nearest to every 1 / fps seconds, each once, with the number of that time as its step."""
    before: tuple[int, float, typing.Any] | None = None
    step, last = 0, -1
    for frame in frames:
        while frame[1] >= step / fps:
            due = step / fps
            nearest = before if before is not None and due - before[1] <= frame[1] - due else frame
            if nearest[0] > last:
                last = nearest[0]
                yield nearest[0], nearest[1], step, nearest[2]
            step += 1
        before = frame


def _display_matrix(frame: "av.VideoFrame") -> Int[np.ndarray, "2 2"]:
    """shown_from_stored of the axes (right, down): how the recorder says that frames are to be turned or mirrored."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()  # see libavutil/display.h
            return np.array([[a, c], [b, d]])
    return np.eye(2, dtype=np.int64)


def _turned(
    image: UInt8[np.ndarray, "h w 3"], shown_from_stored: Int[np.ndarray, "2 2"]
) -> UInt8[np.ndarray, "hu wu 3"]:
    """The image as it is to be shown: turned by the quarter turns and mirrored as the matrix does."""
    (right_right, right_down), (down_right, down_down) = shown_from_stored.tolist()
    if abs(right_down) > abs(right_right):
        image, right_right, down_down = image.swapaxes(0, 1), right_down, down_right
    image = image[:, ::-1] if right_right < 0 else image
    return np.ascontiguousarray(image[::-1] if down_down < 0 else image)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
