"""g2o text files of pose graphs: VERTEX_SE3:QUAT and EDGE_SE3:QUAT, for GTSAM, g2o and Ceres.

    VERTEX_SE3:QUAT id  x y z  qx qy qz qw                                world_from_camera
    EDGE_SE3:QUAT first second  x y z  qx qy qz qw  I11 .. I16 I22 .. I66 first_from_second, upper triangle by rows

All three readers agree on the transforms and on the order of the information matrix, translation before rotation. They
do not agree on the error that it weighs; one matrix is right for one of them only. Ours, Lambda, is of the tangent
(v, w) in first_from_second exp(v, w): the second camera's frame, w a rotation vector in radians. To first order:

    "gtsam"   error (v, w): BetweenFactor<Pose3> after readG2o. The file holds Lambda itself.
    "g2o"     error (v, w / 2): EdgeSE3 takes the vector part of the quaternion, sin(|w| / 2) w / |w|. With a factor 2
              for every index of rotation, the file holds 2 x the mixed and 4 x the rotation block.
    "ceres"   error (R v, -R w), R the rotation of the measured first_from_second: the pose_graph_3d example compares
              in the FIRST camera's frame, rotations as measured times inverse(estimated). The file holds Lambda turned.

Files of "gtsam" and "g2o" name their convention in a first line of comment, which these readers pass over; that of
Ceres stops at a comment, so its file has none.

Files of other tools have more: `FIX` is read, and lines of other kinds (priors, landmarks) are kept as text.
"""

import collections
import dataclasses
import logging
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.text import numbered_lines, read_text
from rig3r_jax.geometry import rigid

CONVENTIONS = ("gtsam", "g2o", "ceres")
_COMMENT = "# information convention: "
_VERTEX, _EDGE, _FIX = "VERTEX_SE3:QUAT", "EDGE_SE3:QUAT", "FIX"
_UPPER = np.triu_indices(6)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class G2oGraph:
    """What a file holds. `pairs` count vertices in the file's order; `ids` are the numbers that it gives them."""

    ids: Int[np.ndarray, "n"]
    world_from_camera: Float[np.ndarray, "n 4 4"]
    pairs: Int[np.ndarray, "m 2"]  # first, second
    first_from_second: Float[np.ndarray, "m 4 4"]
    information: Float[np.ndarray, "m 6 6"]  # of the tangent (v, w) in first_from_second exp(v, w)
    fixed: Int[np.ndarray, "k"]  # vertices that are held, in the file's order
    others: tuple[str, ...]  # lines of other kinds, as they are


def write_g2o(
    path: str | Path,
    world_from_camera: Float[np.ndarray, "n 4 4"],
    pairs: Int[np.ndarray, "m 2"],
    first_from_second: Float[np.ndarray, "m 4 4"],
    information: Float[np.ndarray, "m 6 6"],
    convention: str = "gtsam",
) -> None:
    """Writes a pose graph whose vertices are numbered from 0, for the readers of `convention` (see the module).

    Raises ValueError for no vertices, pairs of vertices that are not there, matrices that are no rigid transforms, and
    information that is not finite, symmetric and positive semi-definite.
    """
    _check_convention(convention)
    if not len(world_from_camera):
        raise ValueError(f"{path}: no vertices; a pose graph needs at least one")
    outside = pairs[(pairs < 0) | (pairs >= len(world_from_camera))]
    if outside.size:
        raise ValueError(
            f"{path}: edge to vertex {outside[0]}, there are {len(world_from_camera)}; give its camera too"
        )
    vertices = _numbers(f"{path}: vertex", world_from_camera)
    measurements = _numbers(f"{path}: edge", first_from_second)
    information = information.astype(np.float64)
    _check_information(path, information)
    error_of_tangent = _error_of_tangent(measurements[:, 3:], convention)
    tangent_of_error = np.linalg.inv(error_of_tangent)
    weights = np.swapaxes(tangent_of_error, -1, -2) @ information @ tangent_of_error
    lines = [] if convention == "ceres" else [_COMMENT + convention]
    lines += [f"{_VERTEX} {index} {_join(row)}" for index, row in enumerate(vertices)]
    for (first, second), measurement, weight in zip(pairs, measurements, weights, strict=True):
        lines.append(f"{_EDGE} {first} {second} {_join(measurement)} {_join(weight[_UPPER])}")
    write_atomically(path, ("\n".join(lines) + "\n").encode("ascii"))


def read_g2o(path: str | Path, convention: str = "gtsam") -> G2oGraph:
    """Reads a pose graph whose information was written for the readers of `convention`.

    Comments are passed over; lines of other kinds are kept as text, and a warning tells how many there are of which.
    Raises ValueError that names file and line for missing or wrong numbers, a vertex given twice or not at all, and a
    comment by `write_g2o` of another convention.
    """
    _check_convention(convention)
    vertices, edges, fixes, others = {}, [], [], []
    for number, line in numbered_lines(read_text(path)):
        where, words = f"{path}: line {number}", line.partition(" #")[0].split()
        if line.startswith(_COMMENT) and line.removeprefix(_COMMENT).strip() != convention:
            raise ValueError(f"{where} is {line!r}, not {convention!r}; read it with the convention of the file")
        if line.startswith("#"):
            continue
        if words[0] == _VERTEX:
            (index,), values = _parse(where, words[1:], 1, 7)
            if index in vertices:
                raise ValueError(f"{where}: vertex {index} was given before; a vertex has one line")
            vertices[index] = values
        elif words[0] == _EDGE:
            edges.append((where, *_parse(where, words[1:], 2, 28)))
        elif words[0] == _FIX:
            fixes.append((line, _parse_ids(where, words[1:])))
        else:
            others.append(line)
    others += [line for line, named in fixes if not vertices.keys() >= set(named)]  # those hold landmarks
    fixed = [index for _, named in fixes if vertices.keys() >= set(named) for index in named]
    counts = collections.Counter(line.split()[0] for line in others)
    kept = ", ".join(f"{count} {tag}" for tag, count in counts.items())
    if not vertices:
        rest = f"; its lines are {kept}" if kept else ""
        raise ValueError(f"{path}: no {_VERTEX} line; a pose graph of 3-D poses needs at least one{rest}")
    if kept:
        logger.warning("%s: lines that are no part of a graph of poses are kept as text: %s", path, kept)
    place = {index: position for position, index in enumerate(vertices)}
    for where, pair, _ in edges:
        for index in pair:
            if index not in place:
                raise ValueError(f"{where}: vertex {index} has no {_VERTEX} line; add one")
    measurements = np.array([values[:7] for *_, values in edges]).reshape(-1, 7)
    weights = np.zeros((len(edges), 6, 6))
    for weight, (*_, values) in zip(weights, edges, strict=True):
        weight[_UPPER] = values[7:]
        weight.T[_UPPER] = values[7:]
    error_of_tangent = _error_of_tangent(measurements[:, 3:], convention)
    return G2oGraph(
        ids=np.array(list(vertices), np.int64),
        world_from_camera=_matrices(np.array(list(vertices.values()))),
        pairs=np.array([[place[index] for index in pair] for _, pair, _ in edges], np.int64).reshape(-1, 2),
        first_from_second=_matrices(measurements),
        information=np.swapaxes(error_of_tangent, -1, -2) @ weights @ error_of_tangent,
        fixed=np.array([place[index] for index in fixed], np.int64),
        others=tuple(others),
    )


def _error_of_tangent(quaternions_xyzw: np.ndarray, convention: str) -> np.ndarray:
    """The matrix per edge that takes our tangent (v, w) to the reader's error, to first order."""
    matrices = np.zeros((len(quaternions_xyzw), 6, 6))
    if convention == "ceres":
        turn = rigid.rotation_from_quat_xyzw(quaternions_xyzw)
        matrices[:, :3, :3], matrices[:, 3:, 3:] = turn, -turn
    else:
        half = 0.5 if convention == "g2o" else 1.0
        matrices[:] = np.diag([1.0, 1.0, 1.0, half, half, half])
    return matrices


def _numbers(where: str, a_from_b: np.ndarray) -> np.ndarray:
    """x y z qx qy qz qw of every matrix, qw not negative."""
    for index in np.flatnonzero(~rigid.is_rigid(a_from_b)):
        rigid.check(a_from_b[index], f"{where} {index}")
    matrices = a_from_b.astype(np.float64)
    return np.concatenate([matrices[:, :3, 3], rigid.quat_xyzw_from_rotation(matrices[:, :3, :3])], axis=-1)


def _matrices(numbers: np.ndarray) -> np.ndarray:
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(numbers[:, 3:]), numbers[:, :3])


def _parse_ids(where: str, words: list[str]) -> list[int]:
    try:
        return np.array([int(word) for word in words], np.int64).tolist()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}; write ids as whole numbers, of 64 bits at most") from error


def _parse(where: str, words: list[str], ids: int, count: int) -> tuple[list[int], list[float]]:
    """The ids and the numbers of a line; the first seven of the latter are a transform."""
    indices = _parse_ids(where, words[:ids])
    try:
        values = [float(word) for word in words[ids:]]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; write plain numbers") from error
    if len(indices) != ids or len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{where}: {len(words)} words; must be {ids} ids and {count} finite numbers")
    rigid.check_quat_xyzw(values[3:7], where)
    return indices, values


def _join(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)  # repr: the shortest that reads back exactly


def _check_information(path: str | Path, information: np.ndarray) -> None:
    for edge, matrix in enumerate(information):
        size = np.abs(matrix).max()
        if not np.isfinite(size) or np.abs(matrix - matrix.T).max() > 1e-6 * size:
            raise ValueError(f"{path}: information of edge {edge} must be finite and symmetric; got {matrix.tolist()}")
        if np.linalg.eigvalsh(matrix)[0] < -1e-6 * size:
            raise ValueError(
                f"{path}: information of edge {edge} has a negative eigenvalue; invert its covariance anew"
            )


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r} is unknown; choose from {', '.join(CONVENTIONS)}")
