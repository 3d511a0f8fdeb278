"""JSON files: what any reader takes, whole or not there, and errors that say which file."""

import json
import math

import numpy as np
import pytest

from rig3r_jax.formats.json_file import json_line, plain, read_json, read_json_lines, write_json

CONTENT = {
    "numbers": np.array([[1.0, np.nan], [-np.inf, 0.1]]),
    "counts": (np.int64(3), np.float32(0.5), np.bool_(True), math.inf),
    1: [None, "±", {"deep": np.float64("nan")}],
    "empty": np.zeros((0, 3)),
}
PLAIN = {
    "numbers": [[1.0, None], [None, 0.1]],
    "counts": [3, 0.5, True, None],
    "1": [None, "±", {"deep": None}],
    "empty": [],
}


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def test_what_is_written_is_json_and_reads_back_plain(tmp_path):
    path = tmp_path / "new/folder/a.json"
    write_json(path, CONTENT)
    assert json.loads(path.read_text(), parse_constant=refuse) == read_json(path) == PLAIN
    assert path.read_text().endswith("}\n") and path.read_text().isascii()
    assert plain(PLAIN) == PLAIN and type(plain(CONTENT)["counts"][0]) is int


def test_what_is_no_json_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match="a.json: is (not JSON|no text) .*; restore the file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match="b.json"):
        read_json(tmp_path / "b.json")


def test_lines_are_rows_and_a_cut_last_one_is_left_out(tmp_path):
    path, rows = tmp_path / "a.jsonl", [{"step": 1, "x": np.float32(2.0)}, {"step": 2, "x": math.nan}]
    text = "".join(map(json_line, rows))
    path.write_text(text + "\n" + '{"step": 3, "x"')
    assert list(read_json_lines(path)) == [(1, {"step": 1, "x": 2.0}), (2, {"step": 2, "x": None})]
    path.write_text('{"step": 1\n' + text)
    with pytest.raises(ValueError, match="a.jsonl:1: is not JSON .*; delete the line"):
        list(read_json_lines(path))
