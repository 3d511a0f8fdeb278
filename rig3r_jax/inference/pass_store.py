"""What passes said, in files named by all that went into them: a run that was killed goes on where it was.

A file is whole or absent, and is read only where model, images and all that was told of them are the same.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.formats.atomic import whole_file
from rig3r_jax.formats.npz import Npz
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import lens_from_numbers
from rig3r_jax.schema import Estimate, Views

logger = logging.getLogger(__name__)

_FORMAT = 1  # of the files and of what a key means
_ARRAYS = [field.name for field in dataclasses.fields(Estimate) if field.name != "lenses"]


@dataclasses.dataclass(frozen=True)
class PassStore:
    """A folder of passes of one model. Others' files in it do no harm."""

    folder: Path
    model_digest: str  # of weights and whatever else its estimates depend on, beside what it is given

    def write(self, key: str, estimate: Estimate) -> None:
        """Whole or not at all."""
        arrays = {name: getattr(estimate, name) for name in _ARRAYS}
        lenses = json.dumps([lens.to_numbers() for lens in estimate.lenses])
        with whole_file(self._path(key)) as file:
            np.savez(file, lenses=np.array(lenses), **{k: v for k, v in arrays.items() if v is not None})

    def read(self, key: str) -> Estimate | None:
        """None where it is not there; where the file is damaged too, which the log says."""
        path = self._path(key)
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            logger.warning("%s: is damaged (%s), its pass is run again", path, error)
            return None

    def loader(self, key: str) -> Callable[[], Estimate]:
        """Reads what was written. It raises ValueError, naming the file, where that is gone."""
        return functools.partial(_load, self._path(key))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


@contextlib.contextmanager
def opened_store(folder: Path | None, model_digest: str) -> Iterator[PassStore]:
    """A store in a folder, which stays; in a temporary one without."""
    if folder is not None:
        yield PassStore(Path(folder), model_digest)
        return
    with tempfile.TemporaryDirectory(prefix="rig3r-passes-") as temporary:
        yield PassStore(Path(temporary), model_digest)


def pass_key(
    model_digest: str, views: Views, lenses: Sequence[Lens | None], wide: Sequence[bool], points_per_image: int
) -> str:
    """Of all that an estimate depends on: equal for equal inputs alone."""
    numbers = [lens and lens.to_numbers() for lens in lenses]
    words = [_FORMAT, jax.__version__, model_digest, numbers, list(map(bool, wide)), points_per_image]
    return tree_digest(views, json.dumps(words))


def tree_digest(tree: PyTree, words: str = "") -> str:
    """Of a tree, such as a model's parameters: its structure and all of its numbers; 32 hexadecimal digits."""
    leaves, structure = jax.tree.flatten(tree)
    digest = hashlib.blake2b(f"{words} {structure}".encode(), digest_size=16)
    for leaf in leaves:
        values = np.asarray(leaf)
        digest.update(f"{values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _read(path: Path) -> Estimate:
    with Npz(path) as file:
        arrays = {name: file[name] for name in _ARRAYS if name in file}
        lenses = tuple(lens_from_numbers(numbers) for numbers in json.loads(str(file["lenses"])))
    return Estimate(lenses=lenses, **arrays)


def _load(path: Path) -> Estimate:
    try:
        return _read(path)
    except (OSError, ValueError, KeyError) as error:
        message = f"{path}: was written by a pass of this run and cannot be read ({error}); reconstruct again"
        raise ValueError(message) from error
