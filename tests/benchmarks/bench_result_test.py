"""Tables and JSON of benchmarks."""

import json

import pytest

from rig3r_jax.benchmarks.result import environment, format_rows, save_result


def test_json_names_hardware_versions_commit_and_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/rig3r", "bench", "train"])
    rows = [{"what": "step", "s": 0.5, "peak": float("nan"), "none": None}]
    path = save_result(tmp_path / "deep", "one", {"batch": 2, "shape": (1, 2)}, rows, extra={"x": float("inf")})
    assert path == tmp_path / "deep/one.json"
    content = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert content["benchmark"] == "one" and content["settings"] == {"batch": 2, "shape": [1, 2]}
    assert content["rows"] == [{"what": "step", "s": 0.5, "peak": None, "none": None}]
    assert content["extra"] == {"x": None}
    told = content["environment"]
    assert told["device"] and told["devices"] >= 1 and told["cores"] >= 1
    assert told["versions"]["jax"] and told["command"] == "rig3r bench train"
    assert told.keys() == environment().keys()


def test_tables_align_and_show_three_digits():
    table = format_rows([{"a": "x", "b": 0.012345, "c": 12345.6}, {"a": "long", "b": None, "d": 7}])
    lines = table.splitlines()
    assert lines[0].split() == ["a", "b", "c", "d"]
    assert lines[2].split() == ["x", "0.0123", "12,346", "-"] and lines[3].split() == ["long", "-", "-", "7"]
    assert len({len(line) for line in lines}) == 1
    assert lines[2].startswith("x   ")
    with pytest.raises(ValueError, match="at least one row"):
        format_rows([])
