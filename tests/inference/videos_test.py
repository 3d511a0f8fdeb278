"""Frames of videos: the right ones, at their times, upright, of the right camera and step."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.inference.inputs import InputOptions, read_inputs
from rig3r_jax.inference.photographs import read_upright
from rig3r_jax.inference.videos import probe, write_frames

av = pytest.importorskip("av")

HEIGHT, WIDTH = 48, 64


def write_video(path, count=30, rate=10, codec="mpeg4", **display):
    """Frame n is of grey 8 n; its upper left quarter is red."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 2
        if display:
            stream.set_display_rotation(**display)
        for number in range(count):
            image = np.full((HEIGHT, WIDTH, 3), 8 * number, np.uint8)
            image[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def grey(photograph):
    return int(read_upright(photograph)[-3, -3].mean())


def test_frames_nearest_to_even_times_are_taken(tmp_path):
    write_video(tmp_path / "walk.mp4")
    assert probe(tmp_path / "walk.mp4").seconds == pytest.approx(3.0, abs=0.2)
    frames = write_frames([tmp_path / "walk.mp4"], tmp_path / "images", fps=4.0)
    numbers = [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27]
    assert [one.name for one in frames.photographs] == [f"walk/{number:06d}.jpg" for number in numbers]
    assert [one.step for one in frames.photographs] == list(range(12)) and frames.photographs[0].camera == "walk"
    np.testing.assert_allclose([*frames.times.values()], np.array(numbers) / 10, atol=1e-6)
    assert np.abs([grey(one) - 8 * number for one, number in zip(frames.photographs, numbers, strict=True)]).max() <= 3
    assert frames.notes == ("walk.mp4: 12 frames (4 per second) of 2.7 s, 64 x 48, as camera walk",)


def test_all_frames_are_taken_and_a_higher_rate_repeats_none(tmp_path):
    write_video(tmp_path / "walk.mkv", count=7)
    for folder, fps in (("all", None), ("fast", 100.0)):
        frames = write_frames([tmp_path / "walk.mkv"], tmp_path / folder, fps)
        assert [int(one.path.stem) for one in frames.photographs] == list(range(7))


@pytest.mark.parametrize(
    "display, corner",  # of the shown image, where red is
    [
        ({"degrees": 0}, (0, 0)), ({"degrees": 90}, (1, 0)), ({"degrees": 180}, (1, 1)), ({"degrees": -90}, (0, 1)),
        ({"degrees": 0, "hflip": True}, (0, 1)), ({"degrees": 90, "hflip": True}, (1, 1)),
        ({"degrees": -90, "vflip": True}, (1, 1)), ({"degrees": 180, "vflip": True}, (0, 1)),
    ],
)  # fmt: skip
def test_frames_are_turned_as_players_show_them(tmp_path, display, corner):
    write_video(tmp_path / "phone.mp4", count=1, **display)
    (frame,) = write_frames([tmp_path / "phone.mp4"], tmp_path / "images").photographs
    image = read_upright(frame)
    assert image.shape[:2] == ((WIDTH, HEIGHT) if display["degrees"] % 180 else (HEIGHT, WIDTH))
    reds = [(row, column) for row in (0, 1) for column in (0, 1) if image[-row, -column, 0] > 200]
    assert reds == [corner]


def test_several_videos_are_cameras_whose_steps_are_of_equal_times(tmp_path):
    (tmp_path / "other").mkdir()
    write_video(tmp_path / "left.mp4", rate=10)
    write_video(tmp_path / "right.mp4", rate=15)
    write_video(tmp_path / "other/left.mp4", count=10)
    films = [tmp_path / "left.mp4", tmp_path / "right.mp4", tmp_path / "other/left.mp4"]
    frames = write_frames(films, tmp_path / "images", fps=5.0)
    assert {one.camera for one in frames.photographs} == {"left", "right", "left_2"}
    first = [(one.camera, one.step) for one in frames.photographs[:6]]
    assert first == [(name, step) for step in (0, 1) for name in ("left", "left_2", "right")]
    every = write_frames(films[:2], tmp_path / "every", fps=None)
    assert max(abs(every.times[one.name] - other) for one, other in _paired(every)) <= 0.5 / 15


def _paired(frames):
    """Frames, and the time of the first of their step."""
    firsts = {}
    return [(one, firsts.setdefault(one.step, frames.times[one.name])) for one in frames.photographs]


def test_films_of_a_rig_need_no_more_than_names(tmp_path):
    for name in ("front", "left"):
        write_video(tmp_path / f"{name}.mp4", count=10)
    cameras = [
        {"image_prefix": "front/", "ref_sensor": True},
        {"image_prefix": "left", "cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [1, 0, 0]},
    ]
    (tmp_path / "rig.json").write_text(json.dumps([{"cameras": cameras}]))
    options = InputOptions([str(tmp_path / "*.mp4")], fps=5.0, rig=tmp_path / "rig.json")
    inputs = read_inputs(options, tmp_path / "out")
    assert [(one.camera, one.step) for one in inputs.photographs] == [
        (name, step) for step in range(5) for name in ("front", "left")
    ]
    assert "5 time steps, 5 with several cameras" in inputs.notes and inputs.known.rig is not None


def test_frames_of_uneven_times_are_taken_by_their_times(tmp_path):
    milliseconds = [500, 533, 566, 600, 800, 1000, 1450, 1550, 2000]  # the first frame need not be at 0
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in milliseconds:
            frame = av.VideoFrame.from_ndarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = write_frames([tmp_path / "phone.mp4"], tmp_path / "images", fps=2.0)
    np.testing.assert_allclose([*frames.times.values()], [0.0, 0.5, 0.95, 1.5], atol=2e-3)
    assert [one.step for one in frames.photographs] == [0, 1, 2, 3]


def test_videos_that_cannot_be_read_are_named_and_may_be_skipped(tmp_path):
    write_video(tmp_path / "good.mp4", count=5)
    (tmp_path / "text.mp4").write_bytes(b"no video" * 50)
    (tmp_path / "empty.mov").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, message in (
        ("text.mp4", "is no video that opens"),
        ("empty.mov", "is no video that opens"),
        ("sound.mp4", "holds no film, only audio; leave it out"),
        ("absent.mp4", "there is no such file"),
    ):
        with pytest.raises(BadRecord, match=f"{name}: {message}") as refusal:
            write_frames([tmp_path / name], tmp_path / "none")
        assert "\n" not in str(refusal.value)
    films = [tmp_path / "text.mp4", tmp_path / "good.mp4"]
    frames = write_frames(films, tmp_path / "images", None, skip_bad=True)
    assert len(frames.photographs) == 5 and [entry.frame for entry in frames.bad] == ["text.mp4"]
    with pytest.raises(BadRecord, match="text.mp4: is no video"):
        write_frames(films[:1], tmp_path / "only", None, skip_bad=True)
    with pytest.raises(ValueError, match="--fps=0.0 must be above 0"):
        write_frames(films, tmp_path / "rate", 0.0)


def test_a_video_that_breaks_off_says_so(tmp_path):
    write_video(tmp_path / "whole.mkv", codec="mpeg4")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    frames = write_frames([tmp_path / "cut.mkv"], tmp_path / "images", None)
    assert 5 < len(frames.photographs) < 25
    assert frames.notes[0].endswith("; it breaks off, its header says 3.0 s")


def test_a_folder_of_videos_and_photographs_beside_videos(tmp_path):
    from PIL import Image

    (tmp_path / "films").mkdir()
    for name in ("front", "left"):
        write_video(tmp_path / f"films/{name}.MP4", count=10)
    inputs = read_inputs(InputOptions([str(tmp_path / "films")], fps=2.0), tmp_path / "out")
    assert [one.name for one in inputs.photographs] == [
        f"{name}/{number:06d}.jpg" for number in (0, 5) for name in ("front", "left")
    ]
    assert inputs.folder == tmp_path / "out/images" and inputs.known.times["left/000005.jpg"] == pytest.approx(0.5)
    Image.new("RGB", (40, 30)).save(tmp_path / "still.jpg")
    words = [str(tmp_path / "films/left.MP4"), str(tmp_path / "still.jpg")]
    both = read_inputs(InputOptions(words, fps=1.0), tmp_path / "both")
    assert [one.name for one in both.photographs] == ["left/000000.jpg", "still.jpg"]
    assert both.sizes == {"left/000000.jpg": (HEIGHT, WIDTH), "still.jpg": (30, 40)}
    Image.new("RGB", (40, 30)).save(tmp_path / "films/poster.png")
    mixed = read_inputs(InputOptions([str(tmp_path / "films")]), tmp_path / "mixed")
    assert [one.name for one in mixed.photographs] == ["poster.png"]
    assert "its 2 videos are left out, its images taken" in mixed.notes[0]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    from rig3r_jax.cli.errors import run_guarded

    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = []
    monkeypatch.setattr("rig3r_jax.cli.errors._say", lambda program, message: said.append(message))
    assert run_guarded("rig3r", lambda: write_frames([tmp_path / "a.mp4"], tmp_path / "images")) == 2
    assert "needs av: pip install 'rig3r_jax[video]'" in said[0]
