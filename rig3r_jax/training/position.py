"""Where a run stands in its data; saved beside the state."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands in its data; with the seed it names every sample that is still to come."""

    seed: int
    next_sample: int

    def after(self, samples: int) -> "Position":
        """The position when as many more samples are done."""
        return Position(self.seed, self.next_sample + samples)

    def to_json(self) -> dict[str, int]:
        return dataclasses.asdict(self)
