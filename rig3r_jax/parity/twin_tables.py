"""The tables of the twin: outcomes of both sides compared, and what of them is shown."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rig3r_jax.parity.compare import Comparison, compare, report
from rig3r_jax.parity.torch_run import Outcome


@dataclasses.dataclass(frozen=True)
class Precision:
    """How our side computes, and the largest relative errors from the twin."""

    forward: float
    gradient: float
    after_steps: float | None  # None: no training; the twin that is compared with is the one in float64
    noise: float  # share of the gradient's global norm below which a gradient may be rounding of a zero
    dtype: str  # of the activations
    products: str  # precision of float32 matrix products on a GPU

    def gradient_tolerance(self, name: str, dpt: bool) -> float:
        """Of a parameter's gradient; see KINKS for the parameters that a DPT head's gradient reaches."""
        if not dpt or self.dtype == "float64" or name.startswith(("pose_head", "rig_head")):
            return self.gradient
        return max(self.gradient, 1e-2 if name.startswith("point_head") else 1e-3)


KINKS = (
    "rounding switches single units of the DPT head's ReLUs on or off, and each one changes gradients by its whole "
    "share: in float32 they are compared to 1e-2 inside the head and to 1e-3 before it"
)


PRECISIONS = {
    "float64": Precision(1e-10, 1e-10, 1e-8, 1e-12, "float64", "highest"),
    "float32": Precision(2e-5, 1e-4, 1e-3, 1e-6, "float32", "highest"),
    "tf32": Precision(5e-3, 2e-2, None, 1e-4, "float32", "tensorfloat32"),  # 10 bits of mantissa
    "bfloat16": Precision(5e-2, 2e-1, None, 1e-3, "bfloat16", "highest"),  # 7 bits
}


@dataclasses.dataclass(frozen=True)
class Silent:
    """A parameter whose gradient is zero by the model's form: both sides hold rounding errors, of these sizes.

    A bias of the keys shifts all logits of a query alike, and softmax does not see it. Adam makes steps of noise.
    """

    name: str
    ours: float
    theirs: float


@dataclasses.dataclass(frozen=True)
class Section:
    """One table."""

    title: str
    rows: list[Comparison]
    silent: list[Silent] = dataclasses.field(default_factory=list)
    of_parameters: bool = False  # rows are parameters, which may be shown block by block
    remark: str = ""

    @property
    def beyond(self) -> int:
        return sum(not row.passed for row in self.rows)


def compare_outcomes(
    precision: str, ours: Outcome, theirs: Outcome, exact: Outcome, start: Mapping[str, np.ndarray]
) -> list[Section]:
    """The tables of one precision; `exact` is the twin's outcome in float64, `start` the parameters before training."""
    limits = PRECISIONS[precision]
    for part in dataclasses.fields(Outcome):
        apart = getattr(ours, part.name).keys() ^ getattr(theirs, part.name).keys()
        if apart:
            raise ValueError(f"{part.name}: only one side has {sorted(apart)}")

    dpt = any(".dpt." in name for name in theirs.gradients)

    def rows(part: str, tolerance: float, leave_out: Sequence[str] = ()) -> list[Comparison]:
        a, b, c = (_thirds(getattr(outcome, part)) for outcome in (ours, theirs, exact))
        limit = {name: limits.gradient_tolerance(name, dpt) if part == "gradients" else tolerance for name in b}
        return [_row(name, a[name], b[name], c[name], limit[name], precision) for name in b if name not in leave_out]

    silent = _silent_gradients(ours.gradients, theirs.gradients, exact.gradients, limits.noise)
    names = [each.name for each in silent]
    kinks = KINKS if dpt and limits.dtype != "float64" else ""
    sections = [
        Section("forward", rows("forward", limits.forward)),
        Section("loss terms", rows("terms", limits.forward)),
        Section("gradients", rows("gradients", limits.gradient, names), silent, of_parameters=True, remark=kinks),
    ]
    if ours.parameters:
        steps = len(ours.curves["loss"])
        a, b, begin = (_thirds(arrays) for arrays in (ours.parameters, theirs.parameters, start))
        moved = [Silent(name, *(float(np.abs(x[name] - begin[name]).max()) for x in (a, b))) for name in names]
        after = rows("parameters", limits.after_steps, names)
        sections += [
            Section(f"{steps} steps of AdamW", rows("curves", limits.after_steps), remark=_divergence(exact)),
            Section(f"parameters after {steps} steps", after, moved, of_parameters=True),
        ]
    return [dataclasses.replace(section, title=f"{precision}: {section.title}") for section in sections]


def _divergence(exact: Outcome) -> str:
    """What to say of a run whose loss explodes: then any rounding does."""
    first, largest = exact.curves["loss"][0], exact.curves["loss"].max()
    if largest < 10 * first:
        return ""
    return (
        f"the twin's loss rises from {first:.1e} to {largest:.1e}: this model diverges at this learning rate, and "
        "rounding grows with it; compare with a smaller --config.optimizer.learning_rate"
    )


def _row(
    name: str, ours: np.ndarray, theirs: np.ndarray, exact: np.ndarray, tolerance: float, precision: str
) -> Comparison:
    """One comparison; that of float32, where both sides round, tells how far either side is from float64."""
    note = ""
    if PRECISIONS[precision].after_steps is not None and precision != "float64":
        far = [compare(name, side, exact).relative for side in (ours, theirs)]
        note = f"from float64: ours {far[0]:.0e}, theirs {far[1]:.0e}"
    return compare(name, ours, theirs, tolerance=tolerance, note=note)


def _silent_gradients(ours: Mapping, theirs: Mapping, exact: Mapping, noise: float) -> list[Silent]:
    """Parameters whose gradient is zero: by the twin in float64, and up to rounding by us; else they are compared."""
    ours, theirs, exact = (_thirds(arrays) for arrays in (ours, theirs, exact))
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in exact.values()))
    largest = {name: [float(np.abs(side[name]).max()) for side in (ours, theirs)] for name in exact}
    zero = [name for name, gradient in exact.items() if np.abs(gradient).max() < PRECISIONS["float64"].noise * norm]
    return [Silent(name, *largest[name]) for name in zero if max(largest[name]) < noise * norm]


def _thirds(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Biases of qkv as three arrays: the keys' part has no gradient where nothing but softmax sees it."""
    split = {}
    for name, array in arrays.items():
        if name.endswith("attn.qkv.bias"):
            split |= {f"{name}[{part}]": third for part, third in zip("qkv", np.split(array, 3), strict=True)}
        else:
            split[name] = array
    return split


def format_section(section: Section, *, in_full: bool = False) -> str:
    """The table; parameters one line per block, its worst parameter (and all that are beyond), unless `in_full`."""
    rows = section.rows if in_full or not section.of_parameters else worst_of_blocks(section.rows)
    lines = [section.title, *([report(rows)] if rows else []), *filter(None, [section.remark])]
    if len(rows) < len(section.rows):
        lines.append(f"the worst of {len(section.rows)} arrays in their blocks; --all shows every one")
    if section.silent:
        worst = max(section.silent, key=lambda each: max(each.ours, each.theirs))
        lines.append(
            f"apart: {len(section.silent)} arrays whose gradient is zero but for rounding, so that AdamW's steps of "
            f"them are noise; largest here: {worst.name}, ours {worst.ours:.1e}, theirs {worst.theirs:.1e}"
        )
        lines += [
            f"  {each.name}: ours {each.ours:.1e}, theirs {each.theirs:.1e}" for each in section.silent if in_full
        ]
    return "\n".join(lines)


def worst_of_blocks(rows: Sequence[Comparison]) -> list[Comparison]:
    """Of every block the parameter with the largest error; it tells how many of the block are beyond."""
    blocks = {}
    for row in rows:
        match = re.match(r"(encoder|decoder)\.(blocks\.\d+|stage\d\.\d+|\w+)|\w+", row.name)
        blocks.setdefault(match.group(), []).append(row)
    worst_rows = []
    for block in blocks.values():
        worst = max(block, key=lambda row: np.inf if np.isnan(row.relative) else row.relative)
        beyond = sum(not row.passed for row in block)
        notes = [worst.note] * bool(worst.note) + [f"{beyond} of {len(block)} in the block are beyond"] * (beyond > 1)
        worst_rows.append(dataclasses.replace(worst, note="; ".join(notes)))
    return worst_rows
