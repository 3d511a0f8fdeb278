"""Whether certainties of discovered rigs are right, and the law that makes them so, for `rig3r bench discovery`.

The law's powers are measured on rigs of other seeds than the certainties are.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Int

from rig3r_jax.benchmarks.discovery import INPUTS, Images, any_rig, drawn
from rig3r_jax.benchmarks.result import Row
from rig3r_jax.evaluation.rig import match_cameras
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_certainty import FREE, GROUPED, Law, certainty
from rig3r_jax.geometry.pose_clusters import fit_places
from rig3r_jax.geometry.rig_discovery import MOST_CAMERAS, discover_rig

STATED = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 0.99), (0.99, 1.001))  # probabilities, by class
SHARES = (0.05, 1.0)  # of errors over the rig's radius; 20 times as many degrees
STEPS = (2, 7)  # time steps, the last excluded
HOW_LAW = (
    "loss: logarithmic, nats per image, of the certainty of its camera; in use: the law of `geometry.place_certainty`; "
    "best: of those that differ from it in one power; none: all powers 1, the probabilities as the fits have them"
)
_LAW_SEED = 6
_POWERS = {
    "labels": (0.2, 0.33, 0.45, 0.65, 1.0),
    "separation": (15.0, 30.0, 60.0, 120.0),
    "least": (0.05, 0.1, 0.2, 0.5, 1.0),
}  # fields of a law
_NO_LAW = Law(labels=1.0, separation=1.0, least=1.0)
_SUREST = 1 - 1e-4  # to which a probability is held in the loss: one surprise is no infinite one


def noisy_rigs(seed: int, stream: int, rigs: int) -> Iterator[Images]:
    """Images of rigs with little to much noise."""
    rng = np.random.default_rng([seed, stream])
    for _ in range(rigs):
        share = float(np.exp(rng.uniform(*np.log(SHARES))))
        yield drawn(rng, any_rig(rng), int(rng.integers(*STEPS)), 20 * share, share)


def certainty_rows(seed: int, rigs: int) -> Iterator[Row]:
    """Of what is said to be so sure, how much is right: images' cameras and steps, whole cameras, and their number."""
    pairs: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for case in noisy_rigs(seed, 3, rigs):
        for kind in INPUTS:
            rig = discover_rig(case.rig_from_camera, **case.inputs(kind))
            right = {
                "camera of an image": (rig.image_certainty, _right(rig.camera, case.camera)),
                "number of cameras": ([rig.count_certainty], [len(rig.rig_from_camera) == len(set(case.camera))]),
                "all images of a camera": (rig.camera_certainty, _whole(rig.camera, case.camera)),
            }
            if kind == "poses" and rig.step is not None:
                right["step of an image"] = (rig.step_certainty, _right(rig.step, case.step))
            for what, (stated, is_right) in right.items():
                pairs.setdefault((kind, what), []).extend(zip(stated, is_right, strict=True))
    for (kind, what), values in sorted(pairs.items()):
        stated, is_right = np.array(values, float).T
        for low, high in STATED:
            inside = (stated >= low) & (stated < high)
            if inside.any():
                yield {
                    "noise": "5 to 100%", "method": "discovery", "input": kind, "rigs": rigs, "certainty of": what,
                    "stated": f"{100 * low:.0f} to {min(100 * high, 100):.0f}%", "cases": int(inside.sum()),
                    "stated %": 100 * float(stated[inside].mean()), "right %": 100 * float(is_right[inside].mean()),
                }  # fmt: skip


def law_rows(seed: int, rigs: int) -> Iterator[Row]:
    """Logarithmic loss of the certainty of images' cameras under the law in use, the best of it and those that differ
    from it in one power, and none."""
    cases = list(noisy_rigs(seed, _LAW_SEED, rigs))
    for name, law, grouped in (("times", GROUPED, True), ("nothing", FREE, False)):
        loss = _loss_of(cases, grouped)
        losses = {powers: loss(powers) for powers in [law, *_laws_beside(law), _NO_LAW]}
        best = min([law, *_laws_beside(law)], key=losses.get)
        for role, powers in {"in use": law, "best": best, "none": _NO_LAW}.items():
            yield {
                "noise": "5 to 100%", "method": f"law, {role}", "input": name, "rigs": rigs,
                **dataclasses.asdict(powers), "loss": losses[powers],
            }  # fmt: skip


def _laws_beside(law: Law) -> Iterator[Law]:
    for name, values in _POWERS.items():
        yield from (dataclasses.replace(law, **{name: value}) for value in values if value != getattr(law, name))


def _loss_of(cases: list[Images], grouped: bool) -> Callable[[Law], float]:
    """Of a law, nats per image."""
    judged = []
    for case in cases:
        counts = range(1, min(len(case.camera), MOST_CAMERAS) + 1)
        fits = fit_places(rigid.nearest_rigid(case.rig_from_camera), counts, case.step if grouped else None)
        chosen = max(fits, key=lambda fit: fit.log_evidence)
        judged.append((fits, chosen, _right(chosen.label, case.camera)))

    def loss(law: Law) -> float:
        logs = []
        for fits, chosen, is_right in judged:
            stated = np.clip(certainty(fits, chosen, law).pose, 1 - _SUREST, _SUREST)
            logs.append(np.log(np.where(is_right, stated, 1 - stated)))
        return -float(np.mean(np.concatenate(logs)))

    return loss


def _right(label: Int[np.ndarray, " v"], true: Int[np.ndarray, " v"]) -> Bool[np.ndarray, " v"]:
    match, _ = match_cameras(label, true)
    return np.array([match.get(int(of_true)) == int(stated) for of_true, stated in zip(true, label, strict=True)])


def _whole(label: Int[np.ndarray, " v"], true: Int[np.ndarray, " v"]) -> list[bool]:
    """Of each label, whether its images are all those of one true camera."""
    sets = {frozenset(np.flatnonzero(true == number).tolist()) for number in np.unique(true)}
    return [frozenset(np.flatnonzero(label == number).tolist()) in sets for number in range(label.max() + 1)]
