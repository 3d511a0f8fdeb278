"""Windows joined in closed form: a guess for the optimiser, exact where the predictions are.

Length units first (`scales`). Then windows are placed one by one along the tree of those that share most, each by the
median rotation and translation over what it shares with its neighbour. Then every body has the median of what the
windows say of it.
"""

import typing
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse import csgraph

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion.problem import Problem
from rig3r_jax.geometry.fusion.scales import GIVEN_POSES, NONE, log_scales
from rig3r_jax.geometry.rig_poses import median_points, median_poses, median_rotations

_WORLD_COUNTS = 3  # times as much as a neighbouring window, which has errors of its own and neighbours of its own
_ONE_PLACE = 1e-9  # of the largest coordinate


@typing.no_type_check
class State(typing.NamedTuple):
    """The unknowns. A point p of window w is exp(log_scale) world_from_window applied to p; the last is the world."""

    log_scale: Float[np.ndarray, " w1"]
    world_from_window: Float[np.ndarray, "w1 4 4"]  # the rigid part
    world_from_body: Float[np.ndarray, "b 4 4"]


def closed_form(problem: Problem) -> tuple[State, str]:
    """A guess, and where the world's unit comes from. ValueError for windows that nothing joins."""
    log_scale, source = log_scales(problem)
    if source != GIVEN_POSES and _apart(problem.world_from_posed[:, :3, 3]):  # by poses in different windows
        if source == NONE:
            log_scale[:-1] += np.log(_scale_over_all(problem, log_scale))
        source = GIVEN_POSES
    if source == NONE and _has_baselines(problem):
        raise ValueError(
            "the rig's cameras sit apart, but no window tells how far in its own unit: none holds two of them at one "
            "step, or their distances drown in the errors; put the images of a step into one window, give a scale, or "
            "leave the rig away"
        )
    anchored = bool(len(problem.posed))
    world_from_window = _placed(problem, log_scale, anchored)
    state = State(log_scale, world_from_window, _bodies(problem, log_scale, world_from_window))
    return (state if anchored else _at_first_image(problem, state)), source


def gauge_body(problem: Problem) -> int | None:
    """The body of image 0, which defines the world where no pose is given."""
    return None if len(problem.posed) else int(problem.body[0])


def _has_baselines(problem: Problem) -> bool:
    """Whether a rig has images from two places of it at one step."""
    numbers, group = np.unique(problem.body, return_inverse=True)
    return any(_apart(problem.body_from_camera[group == number, :3, 3]) for number in range(len(numbers)))


def _apart(centers: Float[np.ndarray, "n 3"]) -> bool:
    """Whether points are at two places or more."""
    return bool(len(centers) and np.ptp(centers, axis=0).max() > _ONE_PLACE * max(1.0, np.abs(centers).max()))


def _scale_over_all(problem: Problem, log_scale: np.ndarray) -> float:
    """World lengths per unit by given poses in different windows."""
    bodies = _bodies(problem, log_scale, _placed(problem, log_scale, anchored=False), free=True)
    world_from_camera = bodies[problem.body[problem.posed]] @ problem.body_from_camera[problem.posed]
    sides = (problem.world_from_posed[:, :3, 3], world_from_camera[:, :3, 3])
    first, second = np.triu_indices(len(sides[0]), 1)
    true, chained = (np.linalg.norm(side[first] - side[second], axis=-1) for side in sides)
    far = (true > _ONE_PLACE * true.max()) & (chained > 0)
    return float(np.median(true[far] / chained[far]))


def _placed(problem: Problem, log_scale: np.ndarray, anchored: bool) -> Float[np.ndarray, "w1 4 4"]:
    """world_from_window of all windows, by the tree from the world where poses are given, else from window 0."""
    window, body, poses = _window_bodies(problem, log_scale, anchored)
    root = problem.world if anchored else 0
    placed = np.tile(np.eye(4), (problem.window_count + 1, 1, 1))
    for parent, child in _tree(problem, window, body, root):
        rows = [np.flatnonzero(window == number) for number in (parent, child)]
        _, *places = np.intersect1d(*(body[row] for row in rows), return_indices=True)
        in_parent, in_child = (poses[row[place]] for row, place in zip(rows, places, strict=True))
        placed[child] = placed[parent] @ _between(in_parent, in_child)
    return placed


def _window_bodies(
    problem: Problem, log_scale: np.ndarray, anchored: bool
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Float[np.ndarray, "p 4 4"]]:
    """Window, body and window_from_body, in world lengths, of every body of each window; the world's are the given."""
    own = problem.window < problem.world
    window, image = problem.window[own], problem.image[own]
    keys, place = np.unique(np.stack([window, problem.body[image]], axis=-1), axis=0, return_inverse=True)
    scaled = _scaled(problem.window_from_camera[own], log_scale[window])
    poses = median_poses(scaled, problem.body_from_camera[image], place.ravel(), len(keys))
    if not anchored:
        return keys[:, 0], keys[:, 1], poses
    bodies, at = _given_bodies(problem)
    window = np.concatenate([keys[:, 0], np.full(len(bodies), problem.world)])
    return window, np.concatenate([keys[:, 1], bodies]), np.concatenate([poses, at])


def _given_bodies(problem: Problem) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 4 4"]]:
    """Bodies whose pose is fixed, or follows from given poses that may move."""
    if problem.fixed.any():
        return np.flatnonzero(problem.fixed), problem.world_from_body[problem.fixed]
    bodies, place = np.unique(problem.body[problem.posed], return_inverse=True)
    at = rigid.nearest_rigid(problem.world_from_posed)
    return bodies, median_poses(at, problem.body_from_camera[problem.posed], place, len(bodies))


def _tree(problem: Problem, window: np.ndarray, body: np.ndarray, root: int) -> Iterator[tuple[int, int]]:
    """(parent, child) of the spanning tree of the windows that share most bodies, from the root outwards."""
    nodes = problem.window_count + (root == problem.world)
    seen = sparse.csr_array((np.ones(len(window)), (window, body)), shape=(nodes, len(problem.fixed)))
    shared = sparse.triu(seen @ seen.T, 1).tocoo()
    likely = shared.data * np.where(shared.col == problem.world, _WORLD_COUNTS, 1.0)
    likely += np.where(shared.col - shared.row == 1, 0.5, 0.0)  # of windows that share as much, neighbours in order
    costs = sparse.coo_array((1.0 / likely, (shared.row, shared.col)), shape=(nodes, nodes))
    tree = csgraph.minimum_spanning_tree(costs.tocsr())
    order, before = csgraph.breadth_first_order(tree, root, directed=False)
    if len(order) < nodes:
        _raise_parts(problem, tree, nodes)
    return ((int(before[child]), int(child)) for child in order[1:])


def _raise_parts(problem: Problem, tree: sparse.sparray, nodes: int) -> typing.NoReturn:
    count, part = csgraph.connected_components(tree, directed=False)
    texts = []
    for number in range(count):
        windows = np.flatnonzero(part[: problem.window_count] == number)
        images = np.unique(problem.image[np.isin(problem.window, windows)])
        if len(windows):
            texts.append(f"windows {_listed(windows)} with images {_listed(images)}")
    raise ValueError(
        f"the windows fall into {len(texts)} parts that share neither image nor rig step"
        f"{'' if nodes == problem.window_count else ' nor given pose'}: {'; '.join(texts[:6])}; let windows overlap, "
        "give the poses of some images in each part, or join each part alone"
    )


def _listed(numbers: np.ndarray) -> str:
    few = ", ".join(map(str, numbers[:8].tolist()))
    return few if len(numbers) <= 8 else f"{few} ... {numbers[-1]} ({len(numbers)})"


def _between(a_from_body: Float[np.ndarray, "n 4 4"], b_from_body: Float[np.ndarray, "n 4 4"]) -> np.ndarray:
    """a_from_b by medians over bodies seen in both, in one length unit."""
    one = np.zeros(len(a_from_body), int)
    turns = a_from_body[:, :3, :3] @ np.swapaxes(b_from_body[:, :3, :3], -1, -2)
    rotation = median_rotations(turns, one, 1)[0]
    shifts = a_from_body[:, :3, 3] - b_from_body[:, :3, 3] @ rotation.T
    return rigid.from_rotation_translation(rotation, median_points(shifts, one, 1)[0])


def _bodies(
    problem: Problem, log_scale: np.ndarray, world_from_window: np.ndarray, free: bool = False
) -> Float[np.ndarray, "b 4 4"]:
    """Medians of what the windows say of each body; `free`: of fixed ones too."""
    window = problem.window
    use = window < (problem.world if free else problem.world + 1)
    window, image = window[use], problem.image[use]
    world_from_camera = world_from_window[window] @ _scaled(problem.window_from_camera[use], log_scale[window])
    body = problem.body[image]
    poses = median_poses(world_from_camera, problem.body_from_camera[image], body, len(problem.fixed))
    return poses if free else np.where(problem.fixed[:, None, None], problem.world_from_body, poses)


def _scaled(window_from_camera: Float[np.ndarray, "n 4 4"], log_scale: Float[np.ndarray, " n"]) -> np.ndarray:
    """With translations in world lengths."""
    scaled = window_from_camera.copy()
    scaled[:, :3, 3] *= np.exp(log_scale)[:, None]
    return scaled


def _at_first_image(problem: Problem, state: State) -> State:
    """Moved so that image 0 is the world's identity."""
    first = state.world_from_body[problem.body[0]] @ problem.body_from_camera[0]
    new_from_world = rigid.invert(first)
    windows = new_from_world @ state.world_from_window
    windows[problem.world] = np.eye(4)
    return State(state.log_scale, windows, new_from_world @ state.world_from_body)
