"""Tables that pandas pickled, read without it; and what is no table, of which nothing is run."""

import base64
import io
import os
import pickle

import numpy as np
import pytest

from rig3r_jax.formats.frame_pickle import read_data_frame
from tests.data.written.frame_pickles import pickled_frame

COLUMNS = {
    "x": [1.0, 2.5],
    "label": ["Car", "Bus"],
    "y": [3.0, 4.0],
    "count": [7, -1],
    "stationary": [True, False],
}
# By pandas 3.1.1 itself: pickle.dumps(DataFrame(COLUMNS with label and names as objects), protocol=4).
BY_PANDAS = (
    "gASVoAMAAAAAAACMBnBhbmRhc5SMCURhdGFGcmFtZZSTlCmBlH2UKIwEX21ncpSMHnBhbmRhcy5jb3JlLmludGVybmFscy5tYW5hZ2Vyc5SMDE"
    "Jsb2NrTWFuYWdlcpSTlCiMFnBhbmRhcy5fbGlicy5pbnRlcm5hbHOUjA9fdW5waWNrbGVfYmxvY2uUk5SMFm51bXB5Ll9jb3JlLm11bHRpYXJy"
    "YXmUjAxfcmVjb25zdHJ1Y3SUk5SMBW51bXB5lIwHbmRhcnJheZSTlEsAhZRDAWKUh5RSlChLAUsCSwKGlGgPjAVkdHlwZZSTlIwCZjiUiYiHlF"
    "KUKEsDjAE8lE5OTkr/////Sv////9LAHSUYolDIAAAAAAAAPA/AAAAAAAABEAAAAAAAAAIQAAAAAAAABBAlHSUYowIYnVpbHRpbnOUjAVzbGlj"
    "ZZSTlEsASwRLAoeUUpRLAoeUUpRoC2gOaBFLAIWUaBOHlFKUKEsBSwFLAoaUaBiMAk84lImIh5RSlChLA4wBfJROTk5K/////0r/////Sz90lG"
    "KJXZQojANDYXKUjANCdXOUZXSUYmgiSwFLAksBh5RSlEsCh5RSlGgLaA5oEUsAhZRoE4eUUpQoSwFLAUsChpRoGIwCaTiUiYiHlFKUKEsDaBxO"
    "Tk5K/////0r/////SwB0lGKJQxAHAAAAAAAAAP//////////lHSUYmgiSwNLBEsBh5RSlEsCh5RSlGgLaA5oEUsAhZRoE4eUUpQoSwFLAUsChp"
    "RoGIwCYjGUiYiHlFKUKEsDaC5OTk5K/////0r/////SwB0lGKJQwIBAJR0lGJoIksESwVLAYeUUpRLAoeUUpR0lF2UKIwYcGFuZGFzLmNvcmUu"
    "aW5kZXhlcy5iYXNllIwKX25ld19JbmRleJSTlGgAjAVJbmRleJSTlH2UKIwEZGF0YZRoDmgRSwCFlGgTh5RSlChLAUsFhZRoLYldlCiMAXiUjA"
    "VsYWJlbJSMAXmUjAVjb3VudJSMCnN0YXRpb25hcnmUZXSUYowEbmFtZZROdYaUUpRoWGgAjApSYW5nZUluZGV4lJOUfZQoaGhOjAVzdGFydJRL"
    "AIwEc3RvcJRLAowEc3RlcJRLAXWGlFKUZYaUUpSMBF90eXCUjAlkYXRhZnJhbWWUjAlfbWV0YWRhdGGUXZSMBWF0dHJzlH2UjAZfZmxhZ3OUfZ"
    "SMF2FsbG93c19kdXBsaWNhdGVfbGFiZWxzlIhzdWIu"
)


def check(table):
    assert set(table) == set(COLUMNS)
    for name, values in COLUMNS.items():
        assert table[name].tolist() == values, name


@pytest.mark.parametrize("old", [True, False])
def test_tables_of_old_and_new_pandas(old):
    content = io.BytesIO()
    pickled_frame(content, COLUMNS, old)
    check(read_data_frame(content.getvalue(), "table.pkl"))


def test_table_that_pandas_itself_wrote():
    check(read_data_frame(base64.b64decode(BY_PANDAS), "table.pkl"))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_run(tmp_path):
    with pytest.raises(ValueError, match=r"table.pkl: asks for posix.mkdir, .* nothing was run"):
        read_data_frame(pickle.dumps(Evil(str(tmp_path / "made"))), "table.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", [3, {"a": 1}, np.zeros(3)])
def test_other_pickles_are_named(value):
    with pytest.raises(ValueError, match=r"table.pkl: .*(no DataFrame|no table)"):
        read_data_frame(pickle.dumps(value), "table.pkl")


@pytest.mark.parametrize("length", [0, 10, 300, -1])
def test_cut_short(length):
    content = base64.b64decode(BY_PANDAS)[:length]
    with pytest.raises(ValueError, match="table.pkl: is no table that pandas pickled"):
        read_data_frame(content, "table.pkl")


@pytest.mark.parametrize("old", [True, False])
def test_table_without_rows(old):
    content = io.BytesIO()
    pickled_frame(content, {"x": np.zeros(0), "stationary": np.zeros(0, bool)}, old)
    table = read_data_frame(content.getvalue(), "table.pkl")
    assert {name: values.shape for name, values in table.items()} == {"x": (0,), "stationary": (0,)}


def test_an_array_of_so_many_bytes_is_refused():
    file = io.BytesIO()
    pickled_frame(file, {"x": [1.0, 2.5]}, old=False)
    start, frame = file.getvalue()[:3], file.getvalue()[11:]  # between them is the length of the frame
    content = b"\x96" + (16).to_bytes(8, "little") + np.array([1.0, 2.5]).tobytes()
    assert start == b"\x80\x05\x95" and frame.count(content) == 1
    frame = frame.replace(content, b"\x8a\x08" + (2**60).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="an array without content"):
        read_data_frame(start + len(frame).to_bytes(8, "little") + frame, "table.pkl")


def test_promises_of_memory_are_refused():
    with pytest.raises(ValueError, match="LONG_BINPUT 4294967295 in 9 bytes"):
        read_data_frame(b"\x80\x04Nr\xff\xff\xff\xff.", "table.pkl")
