"""Windows of frames as samples: which frames of one camera's recording, and the sample that is made of them.

A sequence is what one camera of one scene saw, its frames in order of time. A scene belongs to one split, and so do the
windows of its sequences.
"""

import dataclasses
import logging
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.data.fitting import fixed_lenses
from rig3r_jax.data.options import PipelineOptions, WindowOptions
from rig3r_jax.data.pipeline import make_sample
from rig3r_jax.data.quarantine import Quarantine
from rig3r_jax.data.scene import BadRecord, Scene, SceneSource
from rig3r_jax.data.windows import Window, WindowSampler
from rig3r_jax.schema import Batch

logger = logging.getLogger(__name__)

_ATTEMPTS = 100  # draws for one sample before the run stops, whatever the budget
_SHOWN = 5  # names in a line of the log


@dataclasses.dataclass(frozen=True)
class SequenceFrames:
    """What one camera of one scene saw, in order of time, and where it is to be found."""

    source: int  # number in `WindowStream.sources`
    record: int  # number of the scene in it
    frames: Int[np.ndarray, " n"]  # indices into Scene.frames
    world_from_camera: Float[np.ndarray, "n 4 4"]  # float64, metres
    times: Float[np.ndarray, " n"]  # seconds, the source's own clock

    def __len__(self) -> int:
        return len(self.frames)


class WindowStream:
    """Windows of one camera's frames as samples: `stream[n]` is a numpy Batch without the b dimension.

    A pure function of (seed, n) and of what the sources hold. Frames ascend, none comes twice, the first is the
    reference. Safe to share between threads.

    Attributes:
        sequences: by name, `source/scene/camera`.
        too_short: frames of the sequences that were left out because no window fits in, by name.
        quarantine: counts scenes read at the start and windows drawn; names those that could not be used.
    """

    def __init__(
        self, sources: Sequence[tuple[str, SceneSource]], options: PipelineOptions, windows: WindowOptions, seed: int
    ) -> None:
        """Reads every scene once, for its poses, and keeps none; wrap a source in `CachedSource` to keep its scenes.

        Args:
            sources: (name, scenes of one split).
            options: of the samples; what it says of strides, cameras and grids counts for nothing here.
            windows: which frames; `views` is options.num_views.
            seed: not negative.

        Raises:
            ValueError: options that do not fit each other, or (BadRecord) no sequence that a window fits in.
        """
        problems = [f"{name}: no records; build them or take it out" for name, source in sources if not len(source)]
        if not sources:
            problems = ["no sources; name at least one"]
        if seed < 0:
            problems.append(f"seed {seed} must not be negative")
        if options.num_views != windows.views:
            problems.append(f"num_views={options.num_views} must be equal to views={windows.views} of the windows")
        if problems:
            raise ValueError("windows: " + "; ".join(problems))
        self.sources, self.windows, self.seed = list(sources), windows, seed
        self.options = fixed_lenses(options, [source for _, source in sources])
        self.quarantine = Quarantine(options.max_bad_fraction, options.min_draws)
        self.sequences: dict[str, SequenceFrames] = {}
        self.too_short: dict[str, int] = {}
        self._read_sequences()
        poses = {name: sequence.world_from_camera for name, sequence in self.sequences.items()}
        self._sampler = WindowSampler(poses, windows, seed)
        self._attempts: dict[int, int] = {}  # of the samples whose first draw could not be used

    def __getitem__(self, n: int) -> Batch:
        """Sample n; BadRecord when the budget of bad draws is spent."""
        for attempt in range(_ATTEMPTS):
            window = self._sampler.draw(n, attempt)
            rng = np.random.default_rng([self.seed, n, attempt, 1])  # other than the sampler's
            try:
                sample = self._make(window.sequence, window.frames, rng)
            except BadRecord as error:
                self.quarantine.add(self._source_name(window.sequence), window.sequence, error)
                reason = error
                continue
            self.quarantine.add(self._source_name(window.sequence), window.sequence, None)
            if attempt:
                self._attempts[n] = attempt
            return sample
        raise BadRecord(f"sample {n}: none of {_ATTEMPTS} draws could be used, the last: {reason}; repair the records")

    def window(self, n: int) -> Window:
        """The window that sample n was made of; before `stream[n]`, the first that would be tried."""
        return self._sampler.draw(n, self._attempts.get(n, 0))

    def sample(self, name: str, frames: Sequence[int] | Int[np.ndarray, " v"]) -> Batch:
        """The sample of given frames, counted in the sequence `name`; of the seed, the name and the frames alone.

        For windows that cover a trajectory. BadRecord, naming the scene or its file, where one cannot be used.
        """
        sequence = self.sequences.get(name)
        if sequence is None:
            raise ValueError(f"{name}: no such sequence, or it is too short; there are {_some(list(self.sequences))}")
        if not len(frames) or min(frames) < 0 or max(frames) >= len(sequence):
            raise ValueError(f"{name}: frames {list(frames)} must be some of 0..{len(sequence) - 1}")
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), *map(int, frames)])
        return self._make(name, frames, rng)

    def _make(self, name: str, frames: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        sequence = self.sequences[name]
        scene = self.sources[sequence.source][1][sequence.record]
        return make_sample(scene, sequence.frames[np.asarray(frames)].tolist(), self.options, rng)

    def _source_name(self, sequence: str) -> str:
        return self.sources[self.sequences[sequence].source][0]

    def _read_sequences(self) -> None:
        """Fills `sequences` and `too_short`, and says in the log what was left out."""
        for number, (source_name, source) in enumerate(self.sources):
            for record in range(len(source)):
                try:
                    scene = source[record]
                except BadRecord as error:
                    self.quarantine.add(source_name, f"{source_name}[{record}]", error)
                    continue
                self.quarantine.add(source_name, f"{source_name}[{record}]", None)
                for camera, sequence in enumerate(_sequences_of(scene, number, record)):
                    self._add(f"{source_name}/{scene.name}/{scene.cameras[camera].name}", sequence)
        unread = self.quarantine.reasons
        bad = f"{len(unread)} scenes do not read: {_some([f'{name} ({why})' for name, why in unread.items()])}"
        needed = f"{self.windows.frames_needed} frames that a window needs (views={self.windows.views})"
        if not self.sequences:
            longest = sorted(self.too_short.items(), key=lambda item: -item[1])
            raise BadRecord(
                f"none of {len(self.too_short)} sequences has the {needed}; the longest: {_counts(longest)}; lower "
                "views or stride of the windows, or build records of longer scenes" + (f"; {bad}" if unread else "")
            )
        if unread:
            logger.warning("left out: %s", bad)
        if self.too_short:
            short = _counts(self.too_short.items())
            logger.warning("left out: %d sequences with less than the %s: %s", len(self.too_short), needed, short)

    def _add(self, name: str, sequence: SequenceFrames) -> None:
        if name in self.sequences or name in self.too_short:
            raise ValueError(f"windows: the sequence {name} is there twice; give the sources different names")
        if len(sequence) < self.windows.frames_needed:
            self.too_short[name] = len(sequence)
        else:
            self.sequences[name] = sequence


def _sequences_of(scene: Scene, source: int, record: int) -> list[SequenceFrames]:
    """One per camera, in the order of Scene.cameras; arrays of their own, so that the scene's bytes can go."""
    sequences = []
    for camera in range(len(scene.cameras)):
        steps = sorted((frame.step, i) for i, frame in enumerate(scene.frames) if frame.camera == camera)
        chosen = [scene.frames[i] for _, i in steps]
        poses = np.array([frame.world_from_camera for frame in chosen], np.float64).reshape(-1, 4, 4)
        times = np.array([frame.time for frame in chosen], np.float64)
        sequences.append(SequenceFrames(source, record, np.array([i for _, i in steps], np.int64), poses, times))
    return sequences


def _counts(short: Iterable[tuple[str, int]]) -> str:
    return _some([f"{name} ({frames} frames)" for name, frames in short])


def _some(names: list[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") or "none"
