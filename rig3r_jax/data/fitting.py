"""The scenes of a source that samples can be drawn from, known before the first is drawn."""

import collections
import dataclasses
from collections.abc import Sequence

from rig3r_jax.data.options import AUTO, PipelineOptions
from rig3r_jax.data.sampling import can_fill, extent
from rig3r_jax.data.scene import BadRecord, Scene, SceneSource


def fixed_lenses(options: PipelineOptions, sources: Sequence[SceneSource]) -> PipelineOptions:
    """The options with `lenses` decided, so that all batches have the same arrays: the kinds that occur. Left to every
    scene where a source does not tell its `lens_kinds`."""
    of_sources = [getattr(source, "lens_kinds", None) for source in sources]
    if options.lenses != AUTO or None in of_sources:
        return options
    return dataclasses.replace(options, lenses=",".join(sorted(frozenset().union(*of_sources))))


class FittingScenes:
    """The scenes of a source that fill a sample of these options, in their order, by number.

    A scene that does not read is among them: the draws count and name it.
    """

    def __init__(self, source: SceneSource, options: PipelineOptions, most: int = 0) -> None:
        """Reads every scene once, but none of its images. `most`: no more than so many scenes, the first; 0: all."""
        self._source, self._num_views = source, options.num_views
        self._numbers: list[int] = []
        self.too_small: list[tuple[str, str]] = []  # (name, extent) of the scenes that are left out
        self.lens_kinds: frozenset[str] | None = getattr(source, "lens_kinds", None)  # None: the source does not tell
        for number in range(len(source)):
            if most and len(self._numbers) == most:
                break
            try:
                scene = source[number]
            except BadRecord:
                self._numbers.append(number)
                continue
            if can_fill(scene, **options.draw()):
                self._numbers.append(number)
            else:
                self.too_small.append((scene.name, extent(scene)))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Scene:
        """Scene number `index` of those that fit."""
        return self._source[self._numbers[index]]

    def __str__(self) -> str:
        total = len(self._source)
        if not self.too_small:
            return f"all {total} scenes fill {self._num_views} views"
        counts = collections.Counter(extent for _, extent in self.too_small)
        extents = ", ".join(f"{count} of {extent}" for extent, count in counts.most_common(3))
        return (
            f"{len(self.too_small)} of {total} scenes cannot fill {self._num_views} views and are left out: {extents}, "
            f"such as {self.too_small[0][0]}"
        )
