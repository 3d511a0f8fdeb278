"""Text is read whatever tool wrote it, and the units of times are told or asked for."""

import codecs

import numpy as np
import pytest

from rig3r_jax.formats.json_file import read_json, read_json_lines
from rig3r_jax.formats.text import decode_text, numbered_lines, read_text, split_words
from rig3r_jax.formats.times import unit_of_times

ROWS = "# Größe\n\n1.5 rgb/a.png\n"
ENCODED = {
    "UTF-8": ROWS.encode(),
    "UTF-8 with a mark": codecs.BOM_UTF8 + ROWS.encode(),
    "UTF-16, as a Windows shell writes": codecs.BOM_UTF16_LE + ROWS.encode("utf-16-le"),
    "UTF-16 of the other order": codecs.BOM_UTF16_BE + ROWS.encode("utf-16-be"),
    "Latin-1": ROWS.encode("latin-1"),
    "Windows ends of lines": ROWS.replace("\n", "\r\n").encode(),
    "old Mac ends of lines": ROWS.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("case", ENCODED)
def test_every_encoding_gives_the_same_text(tmp_path, case):
    path = tmp_path / "rows.txt"
    path.write_bytes(ENCODED[case])
    assert read_text(path) == ROWS
    assert list(numbered_lines(read_text(path))) == [(1, "# Größe"), (3, "1.5 rgb/a.png")]


def test_characters_of_windows_do_not_end_a_comment():
    text = decode_text(b"# and so on\x85 1 2\n3\n", "rows.txt")  # cp1252's ellipsis, at which splitlines ends a line
    assert [number for number, _ in numbered_lines(text)] == [1, 2]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2345\n", "is a Git LFS pointer"),
        (codecs.BOM_UTF8 + b"\n<!DOCTYPE html>\n<title>Sign in</title>", "is a web page 'Sign in'"),
    ],
)
def test_text_in_the_place_of_a_file_is_named(tmp_path, data, message):
    (tmp_path / "rows.txt").write_bytes(data)
    for read in (read_text, read_json, lambda path: list(read_json_lines(path))):
        with pytest.raises(ValueError, match=f"rows.txt: {message}"):
            read(tmp_path / "rows.txt")


def test_the_end_of_a_file_of_dos_is_no_text():
    assert decode_text(b"1 2\r\n\x1a", "rows.txt") == "1 2\n"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\x00\x00", b"a\x00b", codecs.BOM_UTF16_LE + b"a"])
def test_what_is_no_text_is_named(data):
    with pytest.raises(ValueError, match=r"^rows.txt: is no text .*; restore the file$"):
        decode_text(data, "rows.txt")


@pytest.mark.parametrize(
    "line, columns, words",
    [
        ("1 2\t3", 0, ["1", "2", "3"]),
        ("1,2 , 3", 0, ["1", "2", "3"]),
        ("1,2,3,", 0, ["1", "2", "3"]),
        ('"1", "2",3', 0, ["1", "2", "3"]),
        ('1.5,"a b,c.png"', 2, ["1.5", "a b,c.png"]),
        ("1,,3", 0, ["1", "", "3"]),
        ("1.5 a b,c.png", 2, ["1.5", "a b,c.png"]),
        ("1.5, a b.png", 2, ["1.5", "a b.png"]),
    ],
)
def test_words_are_parted_by_space_or_commas(line, columns, words):
    assert split_words(line, columns) == words


def test_json_of_windows_is_read(tmp_path):
    path = tmp_path / "a.json"
    for content in (codecs.BOM_UTF8 + b'{"a": "\xc3\xb6"}', codecs.BOM_UTF16_LE + '{"a": "ö"}'.encode("utf-16-le")):
        path.write_bytes(content)
        assert read_json(path) == {"a": "ö"}
    path.write_bytes(codecs.BOM_UTF8 + b'{"a": 1}\r\n\r\n{"a": 2}\r\n\x00\x00\x00')  # zeros, as a crash leaves them
    assert list(read_json_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]


AT_30_HZ = np.arange(40) / 30


@pytest.mark.parametrize("unit, per_second", [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_units_are_told_since_1970_and_asked_for_otherwise(unit, per_second):
    assert unit_of_times((1403636579.76 + AT_30_HZ) * per_second, "auto", "rgb.txt") == unit
    for start in (0.0, 1000.0, 12345.0):  # of a clock that began with the recording or the machine
        times = (start + AT_30_HZ) * per_second
        assert unit_of_times(times, unit, "rgb.txt") == unit
        if unit == "s":
            assert unit_of_times(times, "auto", "rgb.txt") == "s"
        else:
            message = rf"rgb.txt: its times are .* apart in the median.*set time_unit={unit} \(0.03333 s apart\), or"
            with pytest.raises(ValueError, match=message):
                unit_of_times(times, "auto", "rgb.txt")


def test_slow_and_single_times_are_seconds():
    assert unit_of_times(np.array([7.0]), "auto", "a") == unit_of_times(np.arange(9.0), "auto", "a") == "s"
    assert unit_of_times(1.6e9 + 60 * np.arange(9.0), "auto", "a") == "s"  # a picture a minute
    assert unit_of_times(np.array([1403636579763555584.0]), "auto", "a") == "ns"
    with pytest.raises(ValueError, match="time_unit='min' must be one of auto, s, ms, us, ns"):
        unit_of_times(AT_30_HZ, "min", "a")


def test_a_key_that_comes_twice_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"b": [{"a": 1, "c": 0, "a": 2}]}')
    with pytest.raises(ValueError, match=r"a.json: is not JSON \(an object has the key 'a' twice\); restore the file"):
        read_json(tmp_path / "a.json")


def test_lines_of_json_may_be_utf_16(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(codecs.BOM_UTF16_LE + '{"ä": 1}\r\n{"ä": 2}\r\n{"'.encode("utf-16-le") + b"\x00")
    assert list(read_json_lines(tmp_path / "a.jsonl")) == [(1, {"ä": 1}), (2, {"ä": 2})]
