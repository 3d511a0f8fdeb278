"""Files of raw data are read, or named."""

import numpy as np
import pytest

from rig3r_jax.data.files import read_bytes, read_json, read_numbers, read_text
from rig3r_jax.data.scene import BadRecord


def test_contents_come_back(tmp_path):
    file = tmp_path / "file"
    file.write_text('{"a": [1, 2.5]}')
    assert read_bytes(file) == b'{"a": [1, 2.5]}' and read_text(file) == '{"a": [1, 2.5]}'
    assert read_json(file) == {"a": [1, 2.5]}
    for content in (b"1 2\t3\n-4e-1 5 6\n", b"\xef\xbb\xbf1, 2,3,\r\n\r\n-4e-1,5,6\r\n", b"# K\xf6ln\n1 2 3\n-.4 5 6"):
        file.write_bytes(content)
        np.testing.assert_array_equal(read_numbers(file, (2, 3)), [[1, 2, 3], [-0.4, 5, 6]])


@pytest.mark.parametrize(
    "read, content, message",
    [
        (read_bytes, None, "file: cannot be read .No such file or directory.; restore the file"),
        (read_text, None, "file: cannot be read"),
        (read_text, b"a\x00", "file: is no text"),
        (read_json, None, "file: cannot be read"),
        (read_json, b"{", "file: is not JSON"),
        (read_json, b"[" * 100_000, "file: is not JSON"),
        (read_json, b'{"a": 1, "a": 2}', "file: is not JSON .*has the key 'a' twice"),
        (read_json, b"version https://git-lfs.github.com/spec/v1\nsize 12\n", "file: is a Git LFS pointer"),
        (read_json, b"\xff\xff{}", "file: is not JSON"),
        (lambda path: read_numbers(path, (1, 2)), b"# \xe4\n1 two", "file, line 2: does not read .*'two'"),
        (lambda path: read_numbers(path, (1, 2)), b"1 2 3", r"file: \[1.0, 2.0, 3.0\] must be 1 x 2 finite numbers"),
        (lambda path: read_numbers(path, (1, 2)), b"1 nan", "must be 1 x 2 finite"),
        (lambda path: read_numbers(path, (1, 2)), b"\x00", "is no text"),
    ],
)
def test_damage_is_named(tmp_path, read, content, message):
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadRecord, match=message):
        read(file)
