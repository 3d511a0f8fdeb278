"""PLY files: their bytes by an independent parser, the way back, and what is refused."""

import inspect
import struct

import numpy as np
import pytest

from rig3r_jax.formats.ply import read_ply, write_ply

POINTS = np.random.default_rng(0).normal(size=(7, 3)) * 100
COLORS = np.random.default_rng(1).integers(0, 256, (7, 3)).astype(np.uint8)
CONFIDENCE = np.linspace(1.0, 4.0, 7)


def _parse(path):
    """Header lines and rows of a binary little-endian PLY of floats and uchars, by `struct` alone."""
    data = path.read_bytes()
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    kinds = [line.split()[1] for line in lines if line.startswith("property")]
    row = struct.Struct("<" + "".join({"float": "f", "uchar": "B"}[kind] for kind in kinds))
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[2])
    assert len(body) == count * row.size
    return lines, list(row.iter_unpack(body))


@pytest.mark.parametrize("confidence", [None, CONFIDENCE])
def test_bytes_hold_what_was_given(tmp_path, confidence):
    write_ply(tmp_path / "points.ply", POINTS, COLORS, confidence)
    lines, rows = _parse(tmp_path / "points.ply")
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[2] for line in lines if line.startswith("property")]
    assert names == ["x", "y", "z", "red", "green", "blue"] + ([] if confidence is None else ["confidence"])
    table = np.array(rows)
    np.testing.assert_array_equal(table[:, :3], POINTS.astype(np.float32))
    np.testing.assert_array_equal(table[:, 3:6], COLORS)
    if confidence is not None:
        np.testing.assert_array_equal(table[:, 6], CONFIDENCE.astype(np.float32))


def test_read_inverts_write(tmp_path):
    write_ply(tmp_path / "points.ply", POINTS.astype(np.float32), COLORS, CONFIDENCE)
    cloud = read_ply(tmp_path / "points.ply")
    np.testing.assert_array_equal(cloud.points_world, POINTS.astype(np.float32))
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.confidence, CONFIDENCE.astype(np.float32))
    write_ply(tmp_path / "plain.ply", POINTS, COLORS)
    assert read_ply(tmp_path / "plain.ply").confidence is None


@pytest.mark.parametrize("order, word", [("<", "binary_little_endian"), (">", "binary_big_endian"), ("", "ascii")])
def test_read_understands_files_of_others(tmp_path, order, word):
    header = (
        f"ply\nformat {word} 1.0\nobj_info other\nelement vertex 2\nproperty double x\nproperty double y\n"
        "property double z\nproperty short label\nelement face 0\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = [(1.5, -2.0, 3.0, 7), (0.25, 0.0, -8.0, 9)]
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
    if order:
        body = b"".join(struct.pack(order + "dddh", *row) for row in rows)
    (tmp_path / "other.ply").write_bytes(header.encode() + body)
    cloud = read_ply(tmp_path / "other.ply")
    np.testing.assert_array_equal(cloud.points_world, [[1.5, -2.0, 3.0], [0.25, 0.0, -8.0]])
    assert cloud.colors is None and cloud.confidence is None
    assert {name: values.tolist() for name, values in cloud.properties.items()} == {"label": [7, 9]}
    assert cloud.other_elements == {"face": 0} and cloud.comments == ("other",)


COLORS_OF_OTHERS = {
    "floats": ("float", "red green blue", (0.0, 0.5, 1.0), [0, 128, 255]),
    "of MeshLab": ("uchar", "diffuse_red diffuse_green diffuse_blue", (1, 2, 3), [1, 2, 3]),
    "short names": ("uchar", "r g b", (1, 2, 3), [1, 2, 3]),
    "16 bits": ("ushort", "red green blue", (1, 2, 65535), None),
    "floats beyond 1": ("float", "red green blue", (1.0, 128.0, 255.0), None),
}


@pytest.mark.parametrize("case", COLORS_OF_OTHERS)
def test_colors_of_others_are_read_or_kept(tmp_path, case):
    kind, names, values, expected = COLORS_OF_OTHERS[case]
    properties = "".join(f"property {kind} {name}\n" for name in names.split())
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    header = f"ply\r\nformat ascii 1.0\r\ncomment K\xf6ln\nelement vertex 1\n{axes}{properties}"
    faces = "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    text = f"{header}property uchar alpha\n{faces}1 2 3 {' '.join(map(str, values))} 255\n3 0 0 0\n"
    (tmp_path / "other.ply").write_bytes(text.encode("latin-1"))
    cloud = read_ply(tmp_path / "other.ply")
    assert cloud.other_elements == {"face": 1} and cloud.comments == ("K\xf6ln",)
    if expected:
        assert cloud.colors.dtype == np.uint8 and cloud.colors.tolist() == [expected]
        assert list(cloud.properties) == ["alpha"]
    else:
        assert cloud.colors is None
        assert [cloud.properties[name].tolist() for name in names.split()] == [[value] for value in values]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_float32_cannot_hold_are_named(tmp_path, bad):
    points = POINTS.copy()
    points[3, 1] = bad
    with pytest.raises(ValueError, match=r"points_world\[3\].*mask out"):
        write_ply(tmp_path / "points.ply", points, COLORS)
    with pytest.raises(ValueError, match=r"confidence\[0\]"):
        write_ply(tmp_path / "points.ply", POINTS, COLORS, np.full(7, bad))
    assert list(tmp_path.iterdir()) == []


def test_empty_and_uneven_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no points"):
        write_ply(tmp_path / "points.ply", POINTS[:0], COLORS[:0])
    with pytest.raises(ValueError, match="6 colors for 7 points"):
        inspect.unwrap(write_ply)(tmp_path / "points.ply", POINTS, COLORS[:6])  # past the annotations' own check


def test_cut_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "points.ply"
    write_ply(path, POINTS, COLORS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        read_ply(path)
    path.write_bytes(b"\x89PNG not a cloud")
    with pytest.raises(ValueError, match="is a PNG image; give a file of the right kind; a PLY file begins"):
        read_ply(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(ValueError, match="lacks"):
        read_ply(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(ValueError, match="lacks its format, its vertices"):
        read_ply(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "points.ply"
    write_ply(path, POINTS, COLORS)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_ply(path, POINTS * 2, COLORS)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


AXES = "property float x\nproperty float y\nproperty float z\n"
ROWS = b"0 0 1\n0 0 2\n"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_headers_end_their_lines_as_tools_do(tmp_path, order, end):
    header = f"ply \nformat {order} 1.0\ncomment no end_header yet\nelement vertex 2\n{AXES}end_header\n"
    body = ROWS if order == "ascii" else np.array([[0, 0, 1], [0, 0, 2]], "<f4").tobytes()
    (tmp_path / "a.ply").write_bytes(header.replace("\n", end).encode() + body)
    cloud = read_ply(tmp_path / "a.ply")
    assert cloud.points_world.tolist() == [[0, 0, 1], [0, 0, 2]] and cloud.comments == ("no end_header yet",)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_lists_of_vertices_are_kept_and_elements_before_them_passed_over(tmp_path, order):
    header = f"ply\nformat {order} 1.0\nelement camera 1\nproperty list uchar float size\nelement vertex 2\n{AXES}"
    header += "property list uchar uint view_indices\nproperty uchar label\nend_header\n"  # as OpenMVS writes
    if order == "ascii":
        body = b"2 640 480\n\n0 0 1 2 5 7 255\n0 0 2 0 9\n"
    else:
        at = "<" if "little" in order else ">"
        body = struct.pack(f"{at}Bff", 2, 640, 480)
        body += struct.pack(f"{at}fffBIIB", 0, 0, 1, 2, 5, 7, 255) + struct.pack(f"{at}fffBB", 0, 0, 2, 0, 9)
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    cloud = read_ply(tmp_path / "a.ply")
    assert cloud.points_world.tolist() == [[0, 0, 1], [0, 0, 2]] and cloud.other_elements == {"camera": 1}
    assert [views.tolist() for views in cloud.properties["view_indices"]] == [[5, 7], []]
    assert cloud.properties["label"].tolist() == [255, 9]


@pytest.mark.parametrize(
    "change, match",
    [
        (("vertex 2", "vertex 99999999999999"), "holds 2 rows of vertex, the header promises 99999999999999"),
        (("vertex 2", "vertex \xb2"), "header line 'element vertex .' is not understood"),
        (("float z", "uchar z\nproperty uchar w"), "vertex 0 reads '0 0 1' .3 numbers are not x, y, z, w"),
        (("0 0 2", "0 0 two"), "vertex 1 reads '0 0 two'"),
        (("float z", "list uchar int z"), "the header lacks its format, its vertices or x, y, z"),
        (("float z", "list int z"), "header line 'property list int z' is not understood"),
        (("0 0 1", "0 0 1 7"), "vertex 0 reads '0 0 1 7' .4 numbers are not x, y, z"),
    ],
)
def test_rows_that_do_not_fit_their_header_are_named(tmp_path, change, match):
    text = f"ply\nformat ascii 1.0\nelement vertex 2\n{AXES}end_header\n{ROWS.decode()}"
    (tmp_path / "a.ply").write_bytes(text.replace(*change).encode("latin-1"))
    with pytest.raises(ValueError, match=f"a.ply: {match}"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("color", ["300 0 0", "12.5 0 0", "-1 0 0", "nan 0 0"])
def test_numbers_that_their_type_does_not_hold_are_named(tmp_path, color):
    colors = "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    text = f"ply\nformat ascii 1.0\nelement vertex 1\n{AXES}{colors}end_header\n0 0 1 {color}\n"
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(ValueError, match="vertex 0 reads .* is no whole number of 8 bits"):
        read_ply(tmp_path / "a.ply")
