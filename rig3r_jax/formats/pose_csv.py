"""Tables of poses with a line of column names, in any order: CSV as spreadsheets, EuRoC and loggers write it.

A time (time, timestamp, stamp, t) or an image (image, file, filename, name), a position (x y z, tx ty tz, p_x ...) and
a quaternion whose names tell its order (qx qy qz qw, q_w ...). What stands between the first and the last word of a
name is of no account: `p_RS_R_x [m]` is x, `q_RS_w []` is qw, `v_RS_R_x` neither. A unit of the time in its name
(`stamp [ns]`, `time_ms`) counts; positions are metres.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.text import numbered_lines, read_text, split_words
from rig3r_jax.formats.times import AUTO, PER_SECOND, unit_of_times
from rig3r_jax.geometry import rigid

_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_TIME = re.compile(r"(?:time|timestamp|stamp|t|time_?stamp_?\w*|time_(?:s|ms|us|ns))", re.IGNORECASE)
_TIME_UNIT = re.compile(r"[_\[(](s|ms|us|ns)[\])]?$", re.IGNORECASE)
_IMAGE = re.compile(r"(image|image_?name|file|file_?name|name)", re.IGNORECASE)
_POSITION = re.compile(r"(?:pose_)?(?:(?:p|t|pos|position|trans|translation)(?:_\w+)?_?)?([xyz])", re.IGNORECASE)
_QUATERNION = re.compile(r"(?:pose_)?(?:q|quat|quaternion|orientation|rot|rotation)(?:_\w+)?_?([wxyz])", re.IGNORECASE)
_QUATERNION_TOLERANCE = 0.05  # as of TUM files: four printed decimals


@dataclasses.dataclass(frozen=True)
class PoseTable:
    """Poses by time or by image, in the file's order; one of `times` and `images` at least is not None."""

    times: Float[np.ndarray, " n"] | None  # seconds
    images: tuple[str, ...] | None
    world_from_body: Float[np.ndarray, "n 4 4"]
    time_unit: str = "s"  # of the file


def read_pose_table(path: str | Path, time_unit: str = AUTO) -> PoseTable:
    """Reads a table of world_from_body; ValueError naming file, line or column, value, rule and remedy."""
    lines = list(numbered_lines(read_text(path)))
    if not lines:
        raise ValueError(f"{path}: is empty; it must have a line of column names and rows")
    names = re.split(r"[,;]", lines[0][1].lstrip("# "))
    columns = _columns(names, path)
    rows, images = [], []
    for number, line in lines[1:]:
        if line.startswith("#"):
            continue
        words, where = split_words(line), f"{path}, line {number}"
        if len(words) <= max(columns.values()):
            raise ValueError(
                f"{where}: has {len(words)} values, the columns are {max(columns.values()) + 1}; correct it"
            )
        try:
            row = [float(words[columns[name]]) for name in (*_POSE, *(("time",) if "time" in columns else ()))]
        except ValueError as error:
            raise ValueError(f"{where}: does not read ({error}); correct the row") from error
        if not np.isfinite(row).all():
            raise ValueError(f"{where}: {words} must be finite numbers; correct or remove the row")
        rigid.check_quat_xyzw(row[3:7], where, tolerance=_QUATERNION_TOLERANCE)
        rows.append(row)
        images += [words[columns["image"]]] if "image" in columns else []
    if not rows:
        raise ValueError(f"{path}: holds no pose below its column names")
    table = np.array(rows)
    poses = rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(table[:, 3:7]), table[:, :3])
    times, unit = None, "s"
    if "time" in columns:
        unit_in_name = _TIME_UNIT.search(names[columns["time"]].strip(' "'))
        if unit_in_name and time_unit == AUTO:
            time_unit = unit_in_name[1].lower()
        unit = unit_of_times(table[:, 7], time_unit, str(path))
        times = table[:, 7] / PER_SECOND[unit]
    return PoseTable(times, tuple(images) or None, poses, unit)


def _columns(names: list[str], path: str | Path) -> dict[str, int]:
    """Column number of each of _POSE, and of time and image where there are such."""
    columns: dict[str, int] = {}
    for number, name in enumerate(names):
        word = re.sub(r"\[.*?\]|\(.*?\)", "", name).strip().strip('"').replace(" ", "_")
        if match := _QUATERNION.fullmatch(word):
            key = f"q{match[1].lower()}"
        elif _TIME.fullmatch(word):
            key = "time"
        elif match := _POSITION.fullmatch(word):
            key = match[1].lower()
        elif _IMAGE.fullmatch(word):
            key = "image"
        else:
            continue  # velocities, biases and the like
        columns.setdefault(key, number)
    lacking = [name for name in _POSE if name not in columns]
    if lacking or not {"time", "image"} & set(columns):
        what = ", ".join(lacking) or "a time or an image"
        raise ValueError(f"{path}: columns {[name.strip() for name in names]} lack {what}; name the columns so")
    return columns
