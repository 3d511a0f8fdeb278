"""What a scene's numbers say by themselves, without its images and poses: lenses, times, share of depth."""

import numpy as np

from rig3r_jax.data.build_report import MAX_BAD_FRACTION
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import UNMATCHED, Scene
from rig3r_jax.inspection.findings import Finding

_RATES = (0.1, 500.0)  # images a second that recordings have: from one in ten seconds to a high-speed camera's
_FOCAL = (0.2, 10.0)  # over the image's longer side: from a fisheye of 280 degrees to a lens of 6 degrees
_CENTRE = 0.4  # of an image's sides that its principal point may be from its middle: Waymo's side images have 0.22
_TIME_UNITS = {1e-3: "ms", 1e-6: "us", 1e-9: "ns", 1e3: "thousands of seconds"}


def judge_numbers(scene: Scene) -> list[Finding]:
    """Frames left out, lenses, times and share of known depth of a scene."""
    times = _times(scene) if scene.ordered else []  # those of photographs only number them
    return [*_left_out(scene), *_lenses(scene), *times, _share_of_depth(scene)]


def _left_out(scene: Scene) -> list[Finding]:
    """The share of frames that cannot be used, as a build of records counts them, and those without a partner."""
    if not scene.left_out:
        return []
    bad = [frame for frame in scene.left_out if frame.kind != UNMATCHED]
    share = len(bad) / (len(scene.frames) + len(bad))
    first = (bad or scene.left_out)[0]
    words = f"{len(scene.left_out)} of {len(scene.frames) + len(scene.left_out)} frames are left out"
    words += f", {len(scene.left_out) - len(bad)} of them since no depth or pose is near in time; such as {first.frame}"
    fault = share > MAX_BAD_FRACTION
    expected = f"at most {100 * MAX_BAD_FRACTION:g}"
    what = "frames that cannot be used"
    return [Finding(scene.name, what, 100 * share, "%", expected, fault, f"{words}: {first.reason}")]


def _lenses(scene: Scene) -> list[Finding]:
    findings = []
    for camera in scene.cameras:
        (height, width), k = camera.size, camera.lens.intrinsics
        value = float(k[0, 0] / max(width, height))
        band, words = f"{_FOCAL[0]:g} to {_FOCAL[1]:g}", []
        if not _FOCAL[0] <= value <= _FOCAL[1]:
            words.append(f"focal length {k[0, 0]:.4g} is not of an image of {width} x {height} pixels")
        if not 0.8 < k[0, 0] / k[1, 1] < 1.25:
            words.append(f"focal lengths {k[0, 0]:.4g} and {k[1, 1]:.4g} differ: pixels would not be square")
        if max(abs(k[0, 2] / width - 0.5), abs(k[1, 2] / height - 0.5)) > _CENTRE:
            words.append(f"principal point {k[0, 2]:.4g}, {k[1, 2]:.4g} is far from the middle: of a crop, or swapped?")
        if words:
            what = f"lens of {camera.name}, focal length over width"
            findings.append(Finding(scene.name, what, value, "", band, True, "; ".join(words)))
    return findings


def _times(scene: Scene) -> list[Finding]:
    """Images a second of the cameras; a wrong unit is named."""
    steps = []
    for camera in range(len(scene.cameras)):
        times = np.array([frame.time for frame in scene.frames if frame.camera == camera])
        steps += np.diff(times).tolist()
    if not steps:
        return []
    rate = 1 / float(np.median(steps))
    fault, words = not _RATES[0] <= rate <= _RATES[1], ""
    if fault:
        fitting = [name for unit, name in _TIME_UNITS.items() if 0.5 <= rate / unit <= 200]
        words = f"times look like {fitting[0]} read as seconds" if fitting else "times are of no usual unit"
    return [Finding(scene.name, "images a second", rate, "1/s", f"{_RATES[0]:g} to {_RATES[1]:g}", fault, words)]


def _share_of_depth(scene: Scene) -> Finding:
    """Pixels with known depth, of eight frames spread over steps and cameras; whatever share is no fault."""
    shares = []
    count = len(scene.frames)
    for number in np.linspace(0, count - 1, min(count, 8)).round().astype(int):
        frame = scene.frames[number]
        height, width = scene.cameras[frame.camera].size
        shares.append(100 * len(decode_depth(frame.depth).known()[1]) / (height * width))
    value = float(np.median(shares))
    words = "no depth: poses and rays are trained on" if not value else ""
    return Finding(scene.name, "pixels with known depth", value, "%", "any", False, words)
