"""g2o files: there and back, a file by hand, and the error that each reader weighs by what is written."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.g2o import CONVENTIONS, read_g2o, write_g2o

HALF = np.sqrt(0.5)


def _transforms(rng, n):
    matrices = np.broadcast_to(np.eye(4), (n, 4, 4)).copy()
    matrices[:, :3, :3] = Rotation.random(n, random_state=rng).as_matrix()
    matrices[:, :3, 3] = rng.normal(size=(n, 3))
    return matrices


def _graph(seed=0, edges=6):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(edges, 6, 6))
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2], [3, 1]])[:edges]
    return _transforms(rng, 4), pairs, _transforms(rng, edges), root @ root.swapaxes(-1, -2) + np.eye(6)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_read_inverts_write(tmp_path, convention):
    path, graph = tmp_path / "deep" / "graph.g2o", _graph()
    write_g2o(path, *graph, convention)
    read = read_g2o(path, convention)
    np.testing.assert_array_equal(read.ids, [0, 1, 2, 3])
    found = (read.world_from_camera, read.pairs, read.first_from_second, read.information)
    for name, given, back in zip(("cameras", "pairs", "measured", "information"), graph, found, strict=True):
        np.testing.assert_allclose(back, given, atol=1e-12, err_msg=name)


def _reader_error(convention, measured, estimated):
    """The error as the three programs compute it, with scipy's quaternions."""
    between = np.linalg.inv(measured) @ estimated
    if convention == "gtsam":  # logmap of inverse(measured) estimated; here for small ones, V is 1 to first order
        return np.concatenate([between[:3, 3], Rotation.from_matrix(between[:3, :3]).as_rotvec()])
    if convention == "g2o":  # translation and vector part of the quaternion
        return np.concatenate([between[:3, 3], Rotation.from_matrix(between[:3, :3]).as_quat(canonical=True)[:3]])
    turned = Rotation.from_matrix(measured[:3, :3] @ estimated[:3, :3].T).as_quat(canonical=True)
    return np.concatenate([estimated[:3, 3] - measured[:3, 3], 2.0 * turned[:3]])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_reader_finds_our_squared_error(tmp_path, convention):
    rng = np.random.default_rng(1)
    cameras, pairs, measured, information = _graph(1)
    path = tmp_path / "graph.g2o"
    write_g2o(path, cameras, pairs, measured, information, convention)
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("EDGE_SE3:QUAT")]
    for row, matrix, weight in zip(rows, measured, information, strict=True):
        written = np.zeros((6, 6))
        written[np.triu_indices(6)] = [float(word) for word in row[10:]]
        written = written + written.T - np.diag(np.diag(written))
        tangent = 1e-6 * rng.normal(size=6)
        small = np.eye(4)
        small[:3, :3], small[:3, 3] = Rotation.from_rotvec(tangent[3:]).as_matrix(), tangent[:3]
        error = _reader_error(convention, matrix, matrix @ small)
        assert error @ written @ error == pytest.approx(tangent @ weight @ tangent, rel=1e-4)


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "graph.g2o"
    upper = "1 0 0 0 0 7  2 0 0 0 0  3 0 0 0  40 5 0  50 0  60"
    path.write_text(
        "# by hand\n\n"
        f"EDGE_SE3:QUAT 10 7  1 2 3  0 0 {HALF} {HALF}  {upper}\n"
        "VERTEX_SE3:QUAT 10  0 0 0  0 0 0 1\n"
        "FIX 10\n"
        f"VERTEX_SE3:QUAT 7  4 5 6  {-HALF} 0 0 {-HALF}\n"
    )
    read = read_g2o(path)
    np.testing.assert_array_equal(read.ids, [10, 7])
    np.testing.assert_array_equal(read.pairs, [[0, 1]])
    quarter_about_z = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    quarter_about_x = [[1, 0, 0, 4], [0, 0, -1, 5], [0, 1, 0, 6], [0, 0, 0, 1]]
    np.testing.assert_allclose(read.first_from_second[0], quarter_about_z, atol=1e-15)
    np.testing.assert_allclose(read.world_from_camera[1], quarter_about_x, atol=1e-15)
    expected = np.diag([1.0, 2, 3, 40, 50, 60])
    expected[0, 5] = expected[5, 0] = 7
    expected[3, 4] = expected[4, 3] = 5
    np.testing.assert_array_equal(read.information[0], expected)
    # g2o's error is half the rotation vector; Ceres' is turned by the measurement, its rotation also negated.
    halves = np.array([1, 1, 1, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(read_g2o(path, "g2o").information[0], expected * halves * halves[:, None])
    turned = np.zeros((6, 6))
    turned[:3, :3], turned[3:, 3:] = np.diag([2.0, 1, 3]), [[50, -5, 0], [-5, 40, 0], [0, 0, 60]]
    turned[1, 5] = turned[5, 1] = 7  # the first camera's x is minus the second one's y; minus times minus
    np.testing.assert_allclose(read_g2o(path, "ceres").information[0], turned, atol=1e-13)


def test_file_names_its_convention_where_readers_pass_over_comments(tmp_path):
    path, graph = tmp_path / "graph.g2o", _graph()
    for convention in ("gtsam", "g2o"):
        write_g2o(path, *graph, convention)
        assert path.read_text().startswith(f"# information convention: {convention}\n")
        for other in set(CONVENTIONS) - {convention}:
            with pytest.raises(ValueError, match=f"line 1 is .*{convention}.* not '{other}'"):
                read_g2o(path, other)
    write_g2o(path, *graph, "ceres")
    tags = {line.split()[0] for line in path.read_text().splitlines()}
    assert tags == {"VERTEX_SE3:QUAT", "EDGE_SE3:QUAT"}  # the Ceres example refuses a file with anything else


def test_vertices_alone_and_float32(tmp_path):
    cameras, pairs, measured, information = _graph()
    nothing = (pairs[:0], measured[:0], information[:0])
    for convention in CONVENTIONS:
        write_g2o(tmp_path / "graph.g2o", cameras.astype(np.float32), *nothing, convention)
        read = read_g2o(tmp_path / "graph.g2o", convention)
        np.testing.assert_allclose(read.world_from_camera, cameras, atol=1e-6)
        assert read.information.shape == (0, 6, 6) and read.pairs.shape == (0, 2)


@pytest.mark.parametrize("mark, end", [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")])
def test_lines_of_other_tools_are_kept(tmp_path, caplog, mark, end):
    lines = [
        b"# K\xf6ln",
        b"PARAMS_SE3OFFSET 0 0 0 0 0 0 0 1",
        b"VERTEX_SE3:QUAT 4 0 0 0 0 0 0 1",
        b"VERTEX_TRACKXYZ 9 1 2 3",
        b"FIX 9",
        b"FIX 4 7",
        b"VERTEX_SE3:QUAT 7 1 0 0 0 0 0 1",
        b"EDGE_SE3_PRIOR 4 0 1",
        b"EDGE_SE3_PRIOR 7 0 1",
    ]
    path = tmp_path / "graph.g2o"
    path.write_bytes(mark + end.join(lines) + end)
    read = read_g2o(path)
    assert read.ids.tolist() == [4, 7] and read.fixed.tolist() == [0, 1]
    kept = [lines[1], lines[3], lines[7], lines[8], lines[4]]
    assert [line.encode() for line in read.others] == kept
    counts = "1 PARAMS_SE3OFFSET, 1 VERTEX_TRACKXYZ, 2 EDGE_SE3_PRIOR, 1 FIX"
    assert f"{path}: lines that are no part of a graph of poses are kept as text: {counts}" in caplog.text
    caplog.clear()
    path.write_bytes(b"VERTEX_SE3:QUAT 0 0 0 0 0 0 0 1\n")
    assert read_g2o(path).others == () and not caplog.text


def test_comments_after_numbers_are_passed_over(tmp_path):
    path = tmp_path / "graph.g2o"
    path.write_text("VERTEX_SE3:QUAT 8646911284551352320 1 2 3 0 0 0 1 # x0, as GTSAM numbers its keys\n")
    read = read_g2o(path)
    assert read.ids.tolist() == [8646911284551352320] and read.world_from_camera[0, :3, 3].tolist() == [1, 2, 3]


VERTICES = "VERTEX_SE3:QUAT 0 0 0 0 0 0 0 1\nVERTEX_SE3:QUAT 1 0 0 0 0 0 0 1\n"


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "no VERTEX_SE3:QUAT line"),
        ("VERTEX_SE2 0 0 0 0\nEDGE_SE2 0 0\n", "no VERTEX_SE3:QUAT .*; its lines are 1 VERTEX_SE2, 1 EDGE_SE2"),
        ("VERTEX_SE3:QUAT 0 0 0 0 0 0 0\n", "line 1: 7 words; must be 1 ids and 7"),
        ("VERTEX_SE3:QUAT 0 0 0 0 0 0 0 one\n", "line 1: .*one"),
        ("VERTEX_SE3:QUAT 0 0 0 nan 0 0 0 1\n", "finite"),
        ("VERTEX_SE3:QUAT 0.5 0 0 0 0 0 0 1\n", "line 1: .*whole numbers"),
        ("VERTEX_SE3:QUAT 0 0 0 0 0 0 0 0\n", "length 0, must be 1"),
        ("VERTEX_SE3:QUAT 0 0 0 0 1 0 0 1\n", "length 1.41421, must be 1"),
        ("VERTEX_SE3:QUAT 9223372036854775808 0 0 0 0 0 0 1\n", "line 1: .*too large.*; write ids .* 64 bits at most"),
        (VERTICES + VERTICES, "line 3: vertex 0 was given before"),
        (VERTICES + "EDGE_SE3:QUAT 0 1 0 0 0 0 0 0 1\n", "line 3: 9 words; must be 2 ids and 28"),
        (VERTICES + f"EDGE_SE3:QUAT 0 9 0 0 0 0 0 0 1{' 1' * 21}\n", "line 3: vertex 9 has no"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, match):
    path = tmp_path / "graph.g2o"
    path.write_text(text)
    with pytest.raises(ValueError, match=match) as caught:
        read_g2o(path)
    assert str(path) in str(caught.value)


def _with(values, index, value):
    changed = values.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    "position, change, match",
    [
        (0, lambda cameras: cameras[:0], "no vertices"),
        (0, lambda cameras: _with(cameras, 2, 2 * np.eye(4)), "vertex 2 .* no rigid transform"),
        (1, lambda pairs: _with(pairs, 0, [0, 4]), "edge to vertex 4, there are 4"),
        (2, lambda measured: _with(measured, 1, np.nan), "edge 1 .* no rigid transform"),
        (3, lambda information: _with(information, 5, np.inf), "information of edge 5 must be finite"),
        (3, lambda information: _with(information, 5, np.triu(np.ones((6, 6)))), "edge 5 .* symmetric"),
        (3, lambda information: _with(information, 5, -np.eye(6)), "edge 5 has a negative eigenvalue"),
    ],
)
def test_impossible_graphs_are_named_and_nothing_is_written(tmp_path, position, change, match):
    graph = list(_graph())
    graph[position] = change(graph[position])
    with pytest.raises(ValueError, match=match):
        write_g2o(tmp_path / "graph.g2o", *graph)
    assert list(tmp_path.iterdir()) == []


def test_unknown_conventions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'isam'.*gtsam, g2o, ceres"):
        write_g2o(tmp_path / "graph.g2o", *_graph(), "isam")
    with pytest.raises(ValueError, match="'isam'.*gtsam, g2o, ceres"):
        read_g2o(tmp_path / "graph.g2o", "isam")
