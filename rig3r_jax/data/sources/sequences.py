"""Sources of many sequences, each of one place: cut into scenes, and held out by place where no list says how."""

import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Scenes, Source, bad_scene, even_pieces

TRAIN, TEST = "train", "test"


@dataclasses.dataclass(frozen=True)
class ImageSequence:
    """Time steps that follow one another."""

    name: str  # unique in its split
    count: int  # of its time steps
    load: Callable[[str, Sequence[int]], Scene]  # of a scene's name and the numbers of its steps


@dataclasses.dataclass(frozen=True)
class SequenceSource(Source):
    """Options of data sets of sequences. Every one is cut evenly into scenes of at most `window` time steps."""

    window: int = 32  # time steps per scene at most; a record is read as a whole
    stride: int = 1  # every n-th time step is taken

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        for name in ("window", "stride"):
            if getattr(self, name) < 1:
                yield f"{name}={getattr(self, name)} must be a whole number of time steps, at least 1"

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """Names of the sequences of a split, and what lists each; the latter raises BadRecord for a bad one."""
        raise NotImplementedError

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders: Scenes = []
        for name, listing in self.sequences(split):
            try:
                sequence = listing()
                if not sequence.count:
                    raise BadRecord(f"{self.root}: sequence {name} has no images; restore it or leave it out")
            except BadRecord as error:  # one bad sequence is one bad scene
                loaders.append(bad_scene(name, str(error)))
                continue
            for piece in even_pieces(range(0, sequence.count, self.stride), self.window):
                scene = f"{sequence.name}_{piece[0]:05d}"
                loaders.append((scene, functools.partial(sequence.load, scene, piece)))
        return loaders


@dataclasses.dataclass(frozen=True)
class HeldOutSource(SequenceSource):
    """A data set without official splits: whole places are held out for the test split, by their names alone, so that
    a place is in the same split whatever else is there."""

    test_share: float = 0.1  # of the places, about; 0: all are for training

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if not 0 <= self.test_share <= 1:
            yield f"test_share={self.test_share} must be a share from 0 to 1"

    def places(self) -> Sequence[str]:
        """Names of all places, in order. BadRecord where there is none."""
        raise NotImplementedError

    def splits(self) -> tuple[str, ...]:
        """See `Source`."""
        used = {self.split_of(place) for place in self.places()}
        return tuple(split for split in (TRAIN, TEST) if split in used)

    def split_of(self, place: str) -> str:
        """Of a place, by its name."""
        return TEST if zlib.crc32(place.encode()) / 2**32 < self.test_share else TRAIN

    def places_of(self, split: str) -> list[str]:
        """Names of the places of a split, in order."""
        return [place for place in self.places() if self.split_of(place) == split]


def frame_numbers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    """Numbers of a folder's frames, ascending: the group of the names that match the pattern; none of no folder."""
    matches = (pattern.fullmatch(path.name) for path in folder.glob("*"))
    return sorted(int(match[1]) for match in matches if match)


def splits_with(folder: Path, splits: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Those of the splits whose folder, named as the split is, holds paths of a pattern; BadRecord where none does."""
    present = tuple(split for split in splits if any((folder / split).glob(pattern)))
    if not present:
        raise BadRecord(f"{folder}: holds no {' or '.join(splits)} with {pattern} in it; give the folder of these")
    return present
