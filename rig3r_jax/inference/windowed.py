"""Any number of photographs through a model: windows planned, run one after the other, wrong loops left out."""

import dataclasses
from collections.abc import Callable, Sequence

from rig3r_jax.inference.loop_check import loop_verdicts, right_loops
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.pass_store import PassStore
from rig3r_jax.inference.passes import POINTS_IN_MEMORY, Pass, run_passes
from rig3r_jax.inference.progress import PassProgress
from rig3r_jax.inference.retrieval import descriptors_of
from rig3r_jax.inference.shots import Shot
from rig3r_jax.inference.windows import OVERLAP, Facts, WindowPlan, plan_windows

_NAMED = 5  # images of a note


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """How images that do not fit one pass are taken through a model.

    size: images of a pass at most.
    overlap: share of a window's images that the next one has too.
    ordered: images are sequences; False: each window is of images that look alike.
    most_loops: passes over places that a sequence comes back to, at most; 0: none are looked for; None: half as many
        as there are windows.
    points: of all images, that the reconstruction holds.
    """

    size: int
    overlap: float = OVERLAP
    ordered: bool = True
    most_loops: int | None = None
    points: int = POINTS_IN_MEMORY


def windowed_passes(
    model: Model,
    shots: Sequence[Shot],
    options: WindowOptions,
    store: PassStore,
    wide: bool = False,
    tell: Callable[[str], None] | None = None,
) -> tuple[list[Pass], list[str]]:
    """The passes that a reconstruction is joined from, and what people should know of them, a sentence each.

    Their points are read from `store` when they are asked for. `tell` is given a line before the work and one per pass.

    Raises ValueError for sizes and overlaps of which no windows can be made; see `plan_windows`.
    """
    facts, notes = Facts.of(shots), []
    compared = len(shots) > options.size and not (options.ordered and options.most_loops == 0)
    if compared and options.ordered and model.describe is None:
        notes.append("places that the images come back to were not looked for: the model has no encoder of its own")
    if tell and compared and model.describe:
        tell(f"comparing what {len(shots)} images show")
    vectors = descriptors_of(model.describe, shots) if compared and model.describe else None
    plan = plan_windows(facts, options.size, options.overlap, options.ordered, vectors, options.most_loops)
    if tell and len(plan.windows) > 1:
        tell(plan_text(plan, len(shots)))
    progress = PassProgress(len(plan.windows), tell) if tell else None
    passes = run_passes(model, shots, plan.windows, store, wide, options.points, progress)
    names = [shot.photograph.name for shot in shots]
    verdicts = loop_verdicts(plan, passes, facts)
    notes += [verdict.text(names) for verdict in verdicts if not verdict.right]
    if plan.lonely:
        few = ", ".join(names[row] for row in plan.lonely[:_NAMED])
        more = f" and {len(plan.lonely) - _NAMED} more" if len(plan.lonely) > _NAMED else ""
        notes.append(f"{few}{more}: like no other image; where they were taken is a guess")
    return right_loops(plan, passes, verdicts)[1], notes


def plan_text(plan: WindowPlan, count: int) -> str:
    """Such as "1000 images in 72 passes of 24 (1728 in all), 8 of them where the way comes back"."""
    size = max(map(len, plan.windows))
    loops = f", {len(plan.loops)} of them where the way comes back" if plan.loops else ""
    return f"{count} images in {len(plan.windows)} passes of {size} ({plan.passes} in all){loops}"
