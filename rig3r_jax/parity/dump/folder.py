"""A folder of reference arrays that remembers what was read from it, so that nothing goes uncompared unnoticed."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rig3r_jax.formats.json_file import read_json
from rig3r_jax.formats.npz import Npz
from rig3r_jax.weights.files import read_tensors


class MissingArray(KeyError):
    """A file lacks an array, or a setting, that the comparison cannot do without."""

    def __str__(self) -> str:
        return self.args[0]


class Settings(dict):
    """The object of a JSON file, which names the file when a key is missing."""

    def __init__(self, path: Path, content: dict):
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str):
        raise MissingArray(f"{self.path} lacks {key!r}; it has {', '.join(self) or 'nothing'}")


class Archive(Mapping):
    """The arrays of one .npz file; `unread` names those that nobody asked for."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with Npz(path) as file:
                self._arrays = dict(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no .npz file of plain arrays; write it by np.savez") from error
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            near = difflib.get_close_matches(name, self._arrays)
            raise MissingArray(
                f"{self.path} holds no array {name!r}" + (f"; it holds {', '.join(near)}" if near else "")
            )
        self._read.add(name)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def below(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names that start with it; reads nothing."""
        return [name.removeprefix(prefix) for name in self._arrays if name.startswith(prefix)]

    @property
    def unread(self) -> list[str]:
        return [name for name in self._arrays if name not in self._read]


class Dump:
    """One folder such as `golden/vggt_tiny`. A file that is absent is None: a user writes what they have."""

    def __init__(self, path: Path, tolerance: float | None = None):
        self.path = Path(path)
        self.tolerance = tolerance  # in the place of every usual one
        self._archives: dict[str, Archive] = {}

    @property
    def name(self) -> str:
        return self.path.name

    def arrays(self, file: str) -> Archive | None:
        """The arrays of an .npz file, or None without it."""
        if file not in self._archives and (self.path / file).is_file():
            self._archives[file] = Archive(self.path / file)
        return self._archives.get(file)

    def needed(self, file: str) -> Archive:
        """The arrays of an .npz file that the comparison cannot do without."""
        archive = self.arrays(file)
        if archive is None:
            raise ValueError(f"{self.path / file} is missing; the layout of {self.name} wants it")
        return archive

    def tensors(self, file: str = "weights.safetensors") -> Mapping[str, np.ndarray]:
        """The named tensors of a weights file."""
        if not (self.path / file).is_file():
            raise ValueError(f"{self.path / file} is missing; the layout of {self.name} wants it")
        return read_tensors(self.path / file)

    def json(self, file: str):
        """A JSON file's content."""
        if not (self.path / file).is_file():
            raise ValueError(f"{self.path / file} is missing; the layout of {self.name} wants it")
        content = read_json(self.path / file)
        return Settings(self.path / file, content) if isinstance(content, dict) else content

    def unread(self) -> list[str]:
        """`file/array` of everything in the folder's .npz files that was neither compared nor used as an input."""
        names = []
        for path in sorted(self.path.glob("*.npz")):
            names += [f"{path.name}/{name}" for name in (self._archives.get(path.name) or Archive(path)).unread]
        return names
