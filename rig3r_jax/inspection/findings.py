"""What a check finds, and faults that follow from others."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    scene: str
    what: str  # such as "epipolar, along time"
    value: float  # NaN where it could not be measured
    unit: str
    band: str  # what is expected, in words
    fault: bool
    words: str = ""  # what is wrong and what would mend it, or why it was not measured


def with_consequences(findings: Sequence[Finding], undone: Sequence[Finding], mistake: str) -> list[Finding]:
    """Findings of claims with a mistake, reworded by those of the same claims without it, `undone`.

    A fault that is none without the mistake goes with it. One that stays, or that only shows without it, is told as it
    is without the mistake, since its words would else be about both.
    """
    mended = {finding.what: finding for finding in undone}
    reworded = []
    for finding in findings:
        other = mended.pop(finding.what, None)
        if finding.fault and (other is None or not other.fault):
            finding = dataclasses.replace(finding, words=f"goes with: {mistake}")
        elif other is not None and other.fault:
            finding = _beside(other, mistake)
        reworded.append(finding)
    return reworded + [_beside(finding, mistake) for finding in mended.values() if finding.fault]


def _beside(finding: Finding, mistake: str) -> Finding:
    return dataclasses.replace(finding, words=f"{finding.words} (beside: {mistake})")
