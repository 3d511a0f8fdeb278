"""How many images of a pass fit the memory that there is."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.training.rig3r.memory import device_bytes

PROBES = 2, 4  # images: from there on the memory of a pass grows by nearly as much with every image
NEAR = 0.9  # share of the limit from which on more images are not looked for
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)}


def largest_pass(model: Model, size: tuple[int, int], limit_bytes: int, most: int) -> int:
    """The largest number of images, at most `most`, found with which a pass stays within the limit.

    A few passes are compiled to find it, along the line through those nearest to the limit, until one comes NEAR it.

    Raises:
        ValueError: not even one image fits; says how much it wants.
    """
    most = min(most, model.most_views or most)
    first = [most] if most <= 4 * model.usual_views else [probe for probe in PROBES if probe < most]
    peaks = {views: model.peak_bytes(views, size) for views in first}
    while True:
        low = max((views for views, peak in peaks.items() if peak <= limit_bytes), default=0)
        high = min((views for views, peak in peaks.items() if peak > limit_bytes), default=most + 1)
        if high - low <= 1 or (low and peaks[low] >= NEAR * limit_bytes):
            break
        views = min(max(_on_line(peaks, limit_bytes), low + 1), high - 1)
        peaks[views] = model.peak_bytes(views, size)
    if low:
        return low
    raise ValueError(
        f"{model.name} wants {bytes_text(peaks[1])} for one image of {size[0]} x {size[1]} (height x width), and "
        f"{bytes_text(limit_bytes)} may be used; raise --max-memory, or take a smaller model"
    )


def _on_line(peaks: Mapping[int, int], limit_bytes: int) -> int:
    """Images at the limit, on the line through the two peaks nearest to it; of one peak alone, PROBES[0]."""
    if len(peaks) < 2:
        return PROBES[0]
    one, other = sorted(peaks, key=lambda views: abs(peaks[views] - limit_bytes))[:2]
    slope = (peaks[other] - peaks[one]) / (other - one)
    return int(one + (limit_bytes - peaks[one]) / slope) if slope > 0 else one


def memory_limit() -> int:
    """Bytes that this process may use: of the device, where that tells, else of the computer, its own included."""
    on_device = device_bytes()
    if on_device is not None:
        return on_device
    free = [_field(Path("/proc/meminfo"), "MemAvailable", 1024), *map(_free_of_group, _groups())]
    free = [number for number in free if number is not None]
    if not free:  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(free) + (_field(Path("/proc/self/status"), "RssAnon", 1024) or 0)


def parse_bytes(text: str) -> int:
    """Bytes of "12GB", "500 MB", "1.5GiB" or "12" (GB). ValueError for what is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)?(b)?)\s*", text.lower())
    if not match or not 0 < float(match[1]) < math.inf:
        raise ValueError(f"{text!r} is no amount of memory; say it as 12GB, 500MB or 1.5GiB")
    unit = match[2] or ("" if match[3] else "g")
    return int(float(match[1]) * _UNITS[unit])


def bytes_text(number: int) -> str:
    """Bytes for people."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _groups() -> list[Path]:
    """Folders of the control groups that this process is in, inner ones first: each may have a limit of its own."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    names = [line.partition("::")[2] for line in lines if line.startswith("0::")]
    root = Path("/sys/fs/cgroup")
    inner = [root / name.lstrip("/") for name in names]
    return [folder for place in inner for folder in (place, *place.parents) if folder.is_relative_to(root)] or [root]


def _free_of_group(folder: Path) -> int | None:
    """Bytes that a control group has left: pages of files count as free, since they give way. None: it has no limit."""
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return None
    if limit == "max":
        return None
    return max(int(limit) - int(used) + (_field(folder / "memory.stat", "file", 1) or 0), 0)


def _field(path: Path, name: str, unit: int) -> int | None:
    """A number of a file of lines `name number`."""
    try:
        match = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * unit if match else None
