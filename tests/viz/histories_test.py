"""The same numbers come out of metrics.jsonl, TensorBoard event files and W&B's CSV."""

import csv
import json
import math
import struct

import numpy as np
import pytest

from rig3r_jax.viz.histories import label_runs, read_history

# float32 numbers, so that event files hold them exactly.
VALUES = {
    step: {"loss/pose": float(np.float32(1 / step)), "calibration/d2_rot_mean": float(step), "scale/zero": 0.0}
    for step in (1, 2, 300, 70000)
}


def write_jsonl(path):
    path.write_text("".join(json.dumps({"step": step, **row}) + "\n" for step, row in VALUES.items()))


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """A length-delimited protocol buffer field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def crc(data):
    """CRC-32C, bit by bit, masked as TFRecord does."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(step, *values):
    event = (
        b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step) + field(5, b"".join(field(1, v) for v in values))
    )
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", crc(length)) + event + struct.pack("<I", crc(event))


def old_scalar(tag, value):
    return field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)


def tensor_scalar(tag, value):
    content = field(4, struct.pack("<f", value)) if value else b""  # zeros may be left out
    return field(1, tag.encode()) + field(8, b"\x08\x01" + field(2, b"") + content)


def double_scalar(tag, value):
    return field(1, tag.encode()) + field(8, b"\x08\x02" + field(2, b"") + field(6, struct.pack("<d", value)))


def text(tag, words):
    return field(1, tag.encode()) + field(8, b"\x08\x07" + field(2, b"") + field(8, words))


def vector(tag):
    return field(1, tag.encode()) + field(8, b"\x08\x01" + field(2, field(2, b"\x08\x02")) + field(4, bytes(8)))


def write_events(path, scalar, rows=None):
    parts = [record(0, text("notes", b"hello"), vector("curve"))]
    for step, row in (rows or VALUES).items():
        parts.append(record(step, *(scalar(tag, value) for tag, value in row.items())))
    path.write_bytes(b"".join(parts))


def write_csv(path, step_column="_step", prefix=""):
    names = list(VALUES[1])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", step_column, "_runtime", "_timestamp", *(prefix + name for name in names), "note"])
        for number, (step, row) in enumerate(VALUES.items()):
            writer.writerow([number, step, 0.1, 1.7e9, *(repr(row[name]) for name in names), "word"])
            writer.writerow(
                [number, step + 0, 0.1, 1.7e9, *("" for _ in names), ""]
            )  # what other metrics were logged at


def check(history):
    assert set(history.curves) == set(VALUES[1])
    for name, curve in history.curves.items():
        np.testing.assert_array_equal(curve.steps, list(VALUES))
        np.testing.assert_array_equal(curve.values, [row[name] for row in VALUES.values()])


def test_all_formats_give_the_same_numbers(tmp_path):
    (tmp_path / "run").mkdir()
    write_jsonl(tmp_path / "run/metrics.jsonl")
    check(read_history(tmp_path / "run"))
    check(read_history(tmp_path / "run/metrics.jsonl"))
    write_csv(tmp_path / "history.csv")
    check(read_history(tmp_path / "history.csv"))
    write_csv(tmp_path / "chart.csv", "Step", "my-run - ")
    check(read_history(tmp_path / "chart.csv"))
    for number, scalar in enumerate((old_scalar, tensor_scalar, double_scalar)):
        folder = tmp_path / f"tb{number}"
        folder.mkdir()
        write_events(folder / "events.out.tfevents.17.host.1.0.v2", scalar)
        check(read_history(folder))
        check(read_history(folder / "events.out.tfevents.17.host.1.0.v2"))


def test_csv_of_tensorboard_has_the_tag_in_its_name(tmp_path):
    path = tmp_path / "run-train-tag-loss_pose.csv"
    path.write_text("Wall time,Step,Value\n1700000000.1,1,0.5\n1700000001.2,20,0.25\n")
    curves = read_history(path).curves
    assert list(curves) == ["loss_pose"]
    np.testing.assert_array_equal([curves["loss_pose"].steps, curves["loss_pose"].values], [[1, 20], [0.5, 0.25]])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_csv_of_other_tools(tmp_path, caplog, encoding, between):
    path = tmp_path / "metrics.csv"
    rows = [["Global_Step", "loss", "note", "\xf6"], ["1", "0.5", "", "2"], ["2", "inf", "saved", "0x"]]
    path.write_text("\r\n" + "\r\n\r\n".join(map(between.join, rows)), encoding=encoding, newline="")
    curves = read_history(path).curves
    assert set(curves) == {"loss", "\xf6"}
    np.testing.assert_array_equal(curves["loss"].values, [0.5, np.inf])
    assert (
        f"{path}: values that are no numbers are left out: 1 of note such as 'saved', 1 of \xf6 such as '0x'"
        in caplog.text
    )


def test_a_spreadsheet_may_write_a_comma_for_the_point(tmp_path):
    path = tmp_path / "METRICS.CSV"
    path.write_text("step;loss;note\n1;0,5;a, b\n2;-1,25E-3;\n")
    np.testing.assert_array_equal(read_history(path).curves["loss"].values, [0.5, -1.25e-3])


def test_tables_parted_by_tabs_and_capital_suffixes(tmp_path):
    for name, content in {"a.TSV": "step\tloss\n1\t2\n", "a.JSONL": '{"step": 1, "loss": 2}\n'}.items():
        (tmp_path / name).write_text(content)
        assert read_history(tmp_path / name).curves["loss"].values.tolist() == [2]


def test_values_of_json_that_are_no_numbers_are_named(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1, "note": "saved", "b": {"c": 2}}\n{"step": 2, "d": 1' + "0" * 400 + "}\n")
    assert list(read_history(path).curves) == ["a"]
    assert "left out: 1 of note such as 'saved', 1 of b such as \"{'c': 2}\", 1 of d such as '1000" in caplog.text


def test_later_values_and_later_files_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2, "b": null}\n{"step": 2, "a": 3}\n{"step": 3, "a"')
    history = read_history(path)
    np.testing.assert_array_equal(history.curves["a"].values, [1, 3])
    assert math.isnan(history.curves["b"].values[0])
    folder = tmp_path / "tb/run"
    folder.mkdir(parents=True)
    write_events(folder / "events.out.tfevents.20.host", old_scalar, {2: {"a": 8.0}, 3: {"a": 9.0}})
    write_events(folder / "events.out.tfevents.10.host", old_scalar, {1: {"a": 5.0}, 2: {"a": 6.0}})
    np.testing.assert_array_equal(read_history(tmp_path / "tb").curves["a"].values, [5, 8, 9])


def test_event_file_cut_short_is_read_to_its_end_and_garbage_is_refused(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    write_events(path, tensor_scalar)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert read_history(path).curves["loss/pose"].steps.tolist() == [1, 2, 300]
    path.write_bytes(whole[:40] + b"\x00\x01" + whole[40:])
    with pytest.raises(ValueError, match="damaged"):
        read_history(path)


def test_names_are_found_below_a_prefix(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "train/loss/x": 1, "eval/loss/y": 2, "train/loss/y": 3, "loss/z": 4, "train/loss/z": 5}\n'
    )
    history = read_history(path)
    assert history.find("loss/x").values[0] == 1 and history.find("loss/z").values[0] == 4
    assert history.find("loss/y") is None and history.find("loss/w") is None


@pytest.mark.parametrize(
    "name, content, word",
    [
        ("a.csv", "time,loss\n1,2\n", "_step"),
        ("a.csv", "Step,r1 - loss,r2 - loss\n1,2,3\n", "one CSV per run"),
        ("a.csv", "_step,loss\nx,2\n", "must be a number"),
        ("a.jsonl", '{"step": 1}\n', "holds no metric"),
        ("a.jsonl", '{"loss": 1}\n', 'has no "step"'),
        ("a.jsonl", '{"step": NaN, "loss": 1}\n', 'has no "step"'),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\nsize 12\n", "is a Git LFS pointer"),
        ("a.jsonl", '{"step": 1,\n{"step": 2}\n', "delete the line"),
        ("a.txt", "x", "no known kind"),
    ],
)
def test_bad_sources_are_refused(tmp_path, name, content, word):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=word):
        read_history(tmp_path / name)


def test_folders_without_one_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        read_history(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        read_history(tmp_path / "none")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_events(tmp_path / name / "events.out.tfevents.1", old_scalar)
    with pytest.raises(ValueError, match=r"several sub-folders \(a, b\)"):
        read_history(tmp_path)


def test_labels_tell_runs_apart(tmp_path):
    assert label_runs([tmp_path / "a/metrics.jsonl", tmp_path / "b"]) == ["a", "b"]
    assert label_runs([tmp_path / "x/run", tmp_path / "y/run"]) == ["x/run", "y/run"]
    with pytest.raises(ValueError, match="twice"):
        label_runs([tmp_path / "a", tmp_path / "a"])
