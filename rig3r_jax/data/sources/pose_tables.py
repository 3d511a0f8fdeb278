"""Tables of poses as text: rows of words and numbers, parted by white space or commas."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.files import read_text
from rig3r_jax.data.scene import BadRecord, LeftOut, about, leaving_out
from rig3r_jax.formats.text import numbered_lines, split_words
from rig3r_jax.geometry import rigid

_TRUTHS = {"True": "1", "False": "0"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table."""

    where: str  # file and line, for messages
    words: tuple[str, ...]
    numbers: np.ndarray  # (n,) float64


def read_rows(
    path: Path, numbers: int, left_out: list[LeftOut], words: int = 0, header: str | None = None, least: int = 1
) -> list[Row]:
    """The rows of a text file, each of `words` words and then `numbers` finite numbers, without comments (#).

    True and False are 1 and 0. A row that is none costs that row: it is added to `left_out`. BadRecord where the file
    has less than `least` rows that can be used.

    Args:
        path: of the file.
        numbers: per row.
        left_out: gets the rows that cannot be used.
        words: before the numbers.
        header: how a first line begins that is no row, or None.
        least: rows.
    """
    rows: list[Row] = []
    bad_rows: list[LeftOut] = []
    for number, line in numbered_lines(read_text(path)):
        if line.startswith("#") or (header and line.startswith(header)):
            continue
        where = f"{path}, line {number}"
        with leaving_out(bad_rows, f"{path.name}, line {number}"), about("row"):
            parts = split_words(line)
            try:
                values = np.array([float(_TRUTHS.get(part, part)) for part in parts[words:]])
            except ValueError as error:
                raise BadRecord(f"{where}: does not read ({error}); restore the file") from error
            if len(values) != numbers or not np.isfinite(values).all():
                what = f"{words} words and " if words else ""
                raise BadRecord(f"{where}: {line!r} must be {what}{numbers} finite numbers; restore the file")
            rows.append(Row(where, tuple(parts[:words]), values))
    if len(rows) < least:
        reason = f"the first: {bad_rows[0].reason}" if bad_rows else "it is empty"
        raise BadRecord(f"{path}: has no row of {numbers} numbers ({reason}); restore the file")
    left_out += bad_rows
    return rows


def no_row(path: Path, what: str, bad_rows: Sequence[LeftOut]) -> BadRecord:
    """What to raise for an image without a row; among those that do not read may be its own."""
    others = f" ({len(bad_rows)} rows of it do not read; the first: {bad_rows[0].reason})" if bad_rows else ""
    return BadRecord(f"{path}: has no row of {what}{others}; restore the file")


def poses_of(
    quaternions: Float[np.ndarray, "n 4"], translations: Float[np.ndarray, "n 3"], where: str, order: str
) -> Float[np.ndarray, "n 4 4"]:
    """The transforms of unit quaternions, of the `order` "wxyz" or "xyzw", and translations.

    BadRecord, naming `where` and, of several, the row from 0, for what is none.
    """
    quat_xyzw = quaternions[:, [1, 2, 3, 0]] if order == "wxyz" else quaternions
    lengths = np.linalg.norm(quat_xyzw, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= rigid.TOLERANCE) | ~np.isfinite(translations).all(axis=1))
    if len(bad):
        row = bad[0]
        where = f"{where}, row {row}" if len(lengths) > 1 else where
        rigid.check_quat_xyzw(quat_xyzw[row], where, BadRecord)
        raise BadRecord(f"{where}: translation {translations[row].tolist()} is not finite; correct it")
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(quat_xyzw), translations)


def pose_of(
    quaternion: Sequence[float] | Float[np.ndarray, "4"],
    translation: Sequence[float] | Float[np.ndarray, "3"],
    where: str,
    order: str,
) -> Float[np.ndarray, "4 4"]:
    """The same of one; BadRecord naming `where`."""
    values, offset = np.asarray(quaternion, np.float64), np.asarray(translation, np.float64)
    return poses_of(values[None], offset[None], where, order)[0]
