"""Loops are taken for what the way between their ends allows."""

import numpy as np
import pytest

from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.inference.loop_check import loop_verdicts, right_loops
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.windows import plan_windows
from rig3r_jax.schema import Estimate
from tests.inference.plan_windows_test import rig_facts, sequence, two_laps

LAP, COUNT = 100, 150


def circle(moment, radius=40.0):
    """Cameras that look along a circle."""
    angle = 2 * np.pi * moment / LAP
    poses = np.tile(np.eye(4), (len(moment), 1, 1))
    sin, cos = np.sin(angle), np.cos(angle)
    poses[:, 0, 0], poses[:, 0, 2], poses[:, 2, 0], poses[:, 2, 2] = cos, sin, -sin, cos
    poses[:, 0, 3], poses[:, 2, 3] = radius * (1 - cos), radius * sin
    return poses


def run(plan, poses, rng, wrong=()):
    """Passes with a unit of their own and errors; those of `wrong` windows turn and move their later half."""
    passes = []
    for number, rows in enumerate(plan.windows):
        unit, own = np.exp(rng.normal(scale=0.3)), poses[rows].copy()
        if number in wrong:
            own[len(rows) // 2 :] = wrong[number] @ own[len(rows) // 2 :]
        own = np.linalg.inv(own[0]) @ own
        own[:, :3, 3] += rng.normal(scale=0.05, size=(len(rows), 3))
        own[:, :3, 3] /= unit
        distances = np.stack([np.random.default_rng(row).uniform(4, 20, (8, 8)) for row in rows]) / unit
        distances *= np.exp(rng.normal(scale=0.02, size=(len(rows), 1, 1)))
        points = own[:, None, None, :3, 3] + distances[..., None] * [0.0, 0.0, 1.0]
        lens = Pinhole(np.eye(3))
        passes.append(Pass.of(rows, Estimate(own, (lens,) * len(rows), points, np.ones((len(rows), 8, 8)))))
    return passes


def moved(turn, shift):
    matrix = circle(np.array([LAP * turn / 360]), radius=0.0)[0]
    matrix[:3, 3] = shift
    return matrix


@pytest.mark.parametrize("cameras", [1, 3])
def test_right_loops_stay_and_wrong_ones_go(cameras):
    rng = np.random.default_rng(0)
    facts = sequence(COUNT) if cameras == 1 else rig_facts(COUNT, cameras)
    moment = np.arange(COUNT) if cameras == 1 else facts.step
    plan = plan_windows(facts, 12 * cameras, descriptors=two_laps(COUNT, LAP, rng)[moment])
    poses = circle(moment)
    poses[:, 1, 3] += 0.5 * facts.camera
    first = len(plan.windows) - len(plan.loops)
    assert len(plan.loops) >= 3
    wrong = {first: moved(40.0, [0, 0, 0]), first + 2: moved(0.0, [60.0, 0, 0])}
    passes = run(plan, poses, rng, wrong)
    verdicts = loop_verdicts(plan, passes, facts)
    assert [verdict.right for verdict in verdicts[:3]] == [False, True, False]
    assert verdicts[0].turn > 1 > verdicts[2].turn and verdicts[2].place > 1
    kept, passes_kept = right_loops(plan, passes, verdicts)
    assert len(kept.windows) == len(passes_kept) == len(plan.windows) - 2 and kept.loops[0] == plan.loops[1]
    names = [str(row) for row in range(len(moment))]
    one, other = plan.loops[0]
    assert verdicts[0].text(names).startswith(f"{one} and {other} look alike, but")


def test_without_loops_there_is_nothing_to_say():
    plan = plan_windows(sequence(30), 12)
    assert loop_verdicts(plan, [], sequence(30)) == []
    passes = run(plan, circle(np.arange(30)), np.random.default_rng(0))
    assert right_loops(plan, passes, [])[1] == passes
