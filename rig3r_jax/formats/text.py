"""Text files as tools write them: UTF-8, UTF-16 or Latin-1, with or without a byte order mark, with any line ends."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.formats.foreign import HEAD, describe, is_in_place_of_text

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # control characters beside tabs, ends of lines and pages
_QUOTED = re.compile(r'"([^"]*)"')
_BETWEEN_WORDS = re.compile(r"\s*,\s*|\s+")


def read_text(path: str | Path) -> str:
    """The text of a file, its lines ended by "\\n" alone; ValueError naming a file that is no text."""
    return decode_text(Path(path).read_bytes(), path)


def decode_text(data: bytes, where: str | Path) -> str:
    """The text of these bytes, its lines ended by "\\n" alone, without a byte order mark.

    It is UTF-16 where a mark says so, else UTF-8, else Latin-1, as old tools write in comments. ValueError naming
    `where` for bytes that are no text, and for a Git LFS pointer or a web page in the place of the file.
    """
    _refuse_in_place(data, where)
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise ValueError(f"{where}: is no text ({error}); restore the file") from error
        text = data.removeprefix(codecs.BOM_UTF8).decode("latin-1")
    text = text.removesuffix("\x1a")  # how DOS ends a file
    if control := _NOT_IN_TEXT.search(text):
        raise ValueError(f"{where}: is no text (it has the character {control[0]!r}); restore the file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_torn_text(data: bytes, where: str | Path) -> str:
    """The same of bytes whose end a kill may have left as anything at all: what does not decode is replaced."""
    _refuse_in_place(data, where)
    text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without the white space around it) of the lines that are not blank."""
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: that ends lines at Latin-1's "\x85" too
        if line := line.strip():
            yield number, line


def split_words(line: str, columns: int = 0) -> list[str]:
    """The words of a line, parted by white space or commas, without the quotes that each may be in.

    Of `columns` words the last may have white space and commas in it.
    """
    words = _BETWEEN_WORDS.split(line.strip().removesuffix(",").rstrip(), maxsplit=max(columns - 1, 0))
    return [match[1] if (match := _QUOTED.fullmatch(word)) else word for word in words]


def with_slashes(file: str) -> str:
    """The path of a file as it is here, where a list of Windows parts it by backslashes."""
    return file.replace("\\", "/")


def _refuse_in_place(data: bytes, where: str | Path) -> None:
    if is_in_place_of_text(data[:HEAD]):
        raise ValueError(f"{where}: {describe(data[:HEAD])}")
