"""Pose graphs of overlapping windows, weighted by what is known of their errors; host float64.

A window's frame 0 is joined to each of its other frames (a star). An edge measures first_from_second with the error
r = Log(inverse(measured) estimated), a tangent (v, w) of the second camera; its information is the inverse covariance
of r. Minimised is 1/2 sum d r^T information r, d the discount of the robust kernel, by `geometry.least_squares`.
"""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse
from scipy.sparse import csgraph

from rig3r_jax.geometry import rigid, se3
from rig3r_jax.geometry.least_squares import factorized, minimised
from rig3r_jax.geometry.robust import STAGES, THRESHOLD, check_information, check_kernel, quadratic


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Edges:
    """Measured relative cameras. `information` is of the tangent (v, w) in first_from_second exp(v, w)."""

    pairs: Int[np.ndarray, "m 2"]  # vertices: first, second
    first_from_second: Float[np.ndarray, "m 4 4"]
    information: Float[np.ndarray, "m 6 6"]


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PoseGraph:
    """Cameras (a guess, see `chain`) and edges. ValueError for what cannot be solved, named by its edge or vertex."""

    world_from_camera: Float[np.ndarray, "n 4 4"]
    edges: Edges

    def __post_init__(self):
        _check(len(self.world_from_camera), self.edges)
        if not np.isfinite(self.world_from_camera).all():
            raise ValueError("a camera of the guess is not finite; start from chain(vertex_count, edges)")


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Optimized:
    """The best cameras; vertex 0 is where the guess had it. `cost` is 1/2 sum of discounted, whitened squares."""

    world_from_camera: Float[np.ndarray, "n 4 4"]
    cost: float
    iterations: int
    converged: bool


def star_edges(
    windows: Int[np.ndarray, "w v"],
    first_from_camera: Float[np.ndarray, "w v 4 4"],
    information: Float[np.ndarray, "w v-1 6 6"],
) -> Edges:
    """Edges from frame 0 of each window to its other frames.

    Args:
        windows: vertices of each window's frames.
        first_from_camera: predicted, lengths already times the window's scale (`geometry.residual.scale_translation`).
        information: inverse covariance of the predictions' residuals, as `geometry.residual` defines these.
    """
    if windows.shape[1] < 2:
        raise ValueError(f"windows of {windows.shape[1]} frame have no edges; give 2 or more")
    first = np.broadcast_to(windows[:, :1], windows[:, 1:].shape)
    return Edges(
        pairs=np.stack([first, windows[:, 1:]], axis=-1).reshape(-1, 2).astype(np.int64),
        first_from_second=first_from_camera[:, 1:].reshape(-1, 4, 4).astype(np.float64),
        information=information.reshape(-1, 6, 6).astype(np.float64),
    )


def connected_parts(vertex_count: int, pairs: Int[np.ndarray, "m 2"]) -> tuple[int, Int[np.ndarray, "n"]]:
    """How many parts a graph falls into that no edge joins, and the part of every vertex."""
    return csgraph.connected_components(_adjacency(vertex_count, pairs), directed=False)


def chain(vertex_count: int, edges: Edges) -> Float[np.ndarray, "n 4 4"]:
    """Cameras by composing measurements along the shortest paths (in edges) from vertex 0, which becomes the world."""
    _check(vertex_count, edges)
    links = {}
    for (first, second), matrix in zip(edges.pairs.tolist(), rigid.nearest_rigid(edges.first_from_second), strict=True):
        links.setdefault((first, second), matrix)
        links.setdefault((second, first), rigid.invert(matrix))
    order, before = csgraph.breadth_first_order(_adjacency(vertex_count, edges.pairs), 0, directed=False)
    world_from_camera = np.broadcast_to(np.eye(4), (vertex_count, 4, 4)).copy()
    for vertex in order[1:].tolist():
        parent = int(before[vertex])
        world_from_camera[vertex] = world_from_camera[parent] @ links[parent, vertex]
    return world_from_camera


def optimize(
    graph: PoseGraph,
    kernel: str = "none",
    threshold: float = THRESHOLD,
    common_information: Float[np.ndarray, "6 6"] | None = None,
    max_iterations: int = 100,
) -> Optimized:
    """The cameras that fit the edges best, the first one held where it is.

    Args:
        kernel: "none", "huber" or "cauchy". An edge's square q = r^T information r counts as q rho(s) / s, with rho the
            kernel and s = r^T common_information r. So an edge is discounted by the size of its residual alone, not by
            the trust in it: one threshold means the same residuals under every weighting of the edges.
        threshold: in units of sqrt(s), where the kernel leaves the square.
        common_information: None: each edge's own, s = q, which is the usual robust kernel.
        max_iterations: of accepted and refused steps together; beyond, `converged` is False.
    """
    check_kernel(kernel, threshold)
    information = graph.edges.information.astype(np.float64)
    common = information
    if common_information is not None:
        common = np.broadcast_to(common_information.astype(np.float64), information.shape)
        check_information(common[:1], "common_information")
    world_from_camera = rigid.nearest_rigid(graph.world_from_camera)
    measured = rigid.nearest_rigid(graph.edges.first_from_second)
    left = max_iterations
    for stage in STAGES[kernel]:

        def linearised(cameras, stage=stage):
            residual, *jacobians = _residual_and_jacobians(cameras, measured, graph.edges.pairs)
            costs, *derivatives = quadratic(residual, information, common, stage, threshold)
            return float(costs.sum()), *_assembled(*derivatives, jacobians, graph.edges.pairs, len(cameras))

        world_from_camera, cost, used, converged = minimised(linearised, _moved, world_from_camera, left)
        left -= used
    return Optimized(world_from_camera, cost, max_iterations - left, converged)


def marginal_covariances(graph: PoseGraph) -> Float[np.ndarray, "n 6 6"]:
    """Covariance of every camera's tangent in world_from_camera exp(v, w), vertex 0 known exactly.

    Of the graph as it stands: give it the optimum. True as far as the edges' information is, and to first order.
    """
    cameras, edges = rigid.nearest_rigid(graph.world_from_camera), graph.edges
    residual, *jacobians = _residual_and_jacobians(cameras, rigid.nearest_rigid(edges.first_from_second), edges.pairs)
    information = edges.information.astype(np.float64)
    gradient, (hessian,) = _assembled(residual, [information], jacobians, edges.pairs, len(cameras))
    factors, size = factorized(hessian), len(gradient)
    covariances = np.zeros((len(cameras), 6, 6))
    for vertex in range(1, len(cameras)):
        rows = slice(6 * vertex - 6, 6 * vertex)
        columns = np.zeros((size, 6))
        columns[rows] = np.eye(6)
        covariance = factors.solve(columns)[rows]
        covariances[vertex] = 0.5 * (covariance + covariance.T)
    return covariances


def _residual_and_jacobians(
    world_from_camera: np.ndarray, first_from_second: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r of every edge and its derivatives by the tangents at its first and its second camera."""
    with jax.enable_x64(True):
        linearised = _linearised(world_from_camera, first_from_second, pairs)
        return tuple(np.asarray(x, np.float64) for x in linearised)


@jax.jit
def _linearised(
    world_from_camera: Float[Array, "n 4 4"], measured: Float[Array, "e 4 4"], pairs: Int[Array, "e 2"]
) -> tuple[Array, Array, Array]:
    first, second = world_from_camera[pairs[:, 0]], world_from_camera[pairs[:, 1]]
    estimated = se3.compose(se3.inverse(first), second)
    residual = se3.log(se3.compose(se3.inverse(measured), estimated))
    # Log(X exp(d)) = Log(X) + J_right^-1 d, and J_right(r) = J_left(-r). A step at the first camera acts before the
    # estimate, inverted: the adjoint carries it to the second one.
    by_second = se3.inverse_left_jacobian(-residual)
    by_first = -jnp.matmul(by_second, se3.adjoint(se3.inverse(estimated)), precision="highest")
    return residual, by_first, by_second


def _moved(world_from_camera: np.ndarray, step: np.ndarray) -> np.ndarray:
    """world_from_camera exp(step), the first camera held."""
    tangents = np.concatenate([np.zeros(6), step]).reshape(-1, 6)
    with jax.enable_x64(True):
        return np.asarray(_stepped(world_from_camera, tangents), np.float64)


@jax.jit
def _stepped(world_from_camera: Float[Array, "n 4 4"], step: Float[Array, "n 6"]) -> Float[Array, "n 4 4"]:
    return se3.compose(world_from_camera, se3.exp(step))


def _assembled(
    gradients: np.ndarray,
    hessians: list[np.ndarray],
    jacobians: list[np.ndarray],
    pairs: np.ndarray,
    vertex_count: int,
) -> tuple[np.ndarray, list[sparse.sparray]]:
    """Gradient and Hessians by all cameras but the first, which is fixed, of those by every edge's residual."""
    count, values = len(pairs), np.stack(jacobians, axis=1)  # edge, end, row, column
    rows = 6 * np.arange(count)[:, None, None, None] + np.arange(6)[:, None]
    columns = 6 * pairs[:, :, None, None] + np.arange(6)
    rows, columns = (np.broadcast_to(index, values.shape).ravel() for index in (rows, columns))
    matrix = sparse.csr_array((values.ravel(), (rows, columns)), shape=(6 * count, 6 * vertex_count))[:, 6:]
    blocks = [sparse.bsr_array((hessian, np.arange(count), np.arange(count + 1))) for hessian in hessians]
    return matrix.T @ gradients.ravel(), [matrix.T @ (block @ matrix) for block in blocks]


def _adjacency(vertex_count: int, pairs: np.ndarray) -> sparse.sparray:
    shape = (vertex_count, vertex_count)
    return sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)


def _check(vertex_count: int, edges: Edges) -> None:
    pairs, count = edges.pairs, len(edges.pairs)
    if vertex_count < 2 or not count:
        raise ValueError(f"{vertex_count} vertices and {count} edges; a pose graph needs 2 vertices and an edge")
    wrong = ((pairs < 0) | (pairs >= vertex_count)).any(axis=-1) | (pairs[:, 0] == pairs[:, 1])
    if wrong.any():
        edge = int(np.argmax(wrong))
        raise ValueError(f"edge {edge} joins {pairs[edge].tolist()}; its ends must be two of {vertex_count} vertices")
    if edges.first_from_second.shape != (count, 4, 4) or edges.information.shape != (count, 6, 6):
        shapes = f"{edges.first_from_second.shape} and {edges.information.shape}"
        raise ValueError(f"{count} edges with measurements and information of shapes {shapes}; give one to each edge")
    broken = ~np.isfinite(edges.first_from_second).all(axis=(-2, -1))
    if broken.any():
        raise ValueError(f"the measurement of edge {np.argmax(broken)} is not finite; leave its window out")
    check_information(edges.information, "information of edge")
    parts, part = connected_parts(vertex_count, pairs)
    if parts > 1:
        stray = int(np.argmax(part != part[0]))
        raise ValueError(
            f"the graph falls into {parts} parts: no path from vertex 0 to vertex {stray}; "
            "let windows overlap, or give one part alone"
        )
