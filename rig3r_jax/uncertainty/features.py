"""What a frozen backbone says of windows of frames, computed once and kept in a file.

A frame's features depend on its companions (attention is joint), so they belong to a window and not to the frame.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, PyTree

from rig3r_jax.formats.atomic import whole_file
from rig3r_jax.formats.npz import Npz
from rig3r_jax.training.optimizer import path_string

logger = logging.getLogger(__name__)
FORMAT = 1  # of the file; raised where what the arrays mean changes, so that older files are made anew


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class WindowFeatures:
    """Windows of a frozen backbone; frame 0 is the origin. ValueError for other shapes and for what is not finite.

    Predicted translations may have any scale of their own, one per window.
    """

    features: Float[np.ndarray, "i b v d"]  # float32, of every refinement
    camera_from_world_predicted: Float[np.ndarray, "i b v 4 4"]
    camera_from_world_true: Float[np.ndarray, "b v 4 4"]  # metres
    names: tuple[str, ...]  # of the windows

    def __post_init__(self):
        iterations, count, views = self.features.shape[:3]
        shapes = {
            "features": (iterations, count, views, self.features.shape[-1]),
            "camera_from_world_predicted": (iterations, count, views, 4, 4),
            "camera_from_world_true": (count, views, 4, 4),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ValueError(f"{name} has the shape {values.shape}; beside these features it must be {shape}")
            axis = 0 if name == "camera_from_world_true" else 1
            bad = ~np.isfinite(values).all(axis=tuple(k for k in range(values.ndim) if k != axis))
            if bad.any():
                first = self.names[np.flatnonzero(bad)[0]]
                raise ValueError(f"{name} is not finite in {bad.sum()} of {count} windows, first {first}; leave it out")
        if len(self.names) != count:
            raise ValueError(f"there are {len(self.names)} names of {count} windows; give one to each")
        if views < 2:
            raise ValueError(f"a window has {views} frame; it needs 2 or more, the first is the origin")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def views(self) -> int:
        return self.features.shape[2]

    @property
    def width(self) -> int:
        return self.features.shape[-1]


def joined(parts: Sequence[WindowFeatures]) -> WindowFeatures:
    """The windows of all parts, in order."""
    if not parts:
        raise ValueError("there are no windows; give at least one batch")
    return WindowFeatures(
        np.concatenate([part.features for part in parts], axis=1),
        np.concatenate([part.camera_from_world_predicted for part in parts], axis=1),
        np.concatenate([part.camera_from_world_true for part in parts]),
        tuple(name for part in parts for name in part.names),
    )


def parameters_digest(params: PyTree) -> str:
    """SHA-256 of names, types, shapes and values of all parameters: what a cache's key knows the backbone by."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        values = np.ascontiguousarray(leaf)
        digest.update(f"{path_string(path)} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def save(windows: WindowFeatures, path: str | Path, key: dict[str, typing.Any]) -> None:
    """Writes one .npz, whole or not at all. `key` (JSON) is all that the windows depend on, see `load_cached`."""
    arrays = {field.name: getattr(windows, field.name) for field in dataclasses.fields(windows)}
    with whole_file(path) as file:
        np.savez(file, **{**arrays, "names": np.array(windows.names)}, key=np.array(_key_text(key)))


def load_cached(path: str | Path, key: dict[str, typing.Any]) -> WindowFeatures | None:
    """The windows of `save`; None where there is no file, or one of another key, which the log says.

    Raises:
        ValueError: the file is none of `save`'s.
    """
    path = Path(path)
    if not path.exists():
        return None
    with _opened(path) as file:
        file_key = str(file["key"])
        if file_key != _key_text(key):
            logger.info("%s is of other windows (%s); they are computed anew", path, file_key)
            return None
        arrays = {field.name: file[field.name] for field in dataclasses.fields(WindowFeatures)}
    return WindowFeatures(**{**arrays, "names": tuple(map(str, arrays["names"]))})


def kept_cameras(
    path: str | Path, backbone: str
) -> tuple[Float[np.ndarray, "i b v 4 4"], Float[np.ndarray, "b v 4 4"]] | None:
    """(predicted, true) camera_from_world of the windows of `save`; their features, which are large, are not read.

    None where there is no file, or one whose key names another `backbone`. ValueError for a file that is none.
    """
    path = Path(path)
    if not path.exists():
        return None
    with _opened(path) as file:
        if json.loads(str(file["key"])).get("backbone") != backbone:
            return None
        return file["camera_from_world_predicted"], file["camera_from_world_true"]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Npz]:
    try:
        with Npz(path) as file:
            yield file
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} holds no features of windows ({error}); delete it, it is made anew") from None


def _key_text(key: dict[str, typing.Any]) -> str:
    return json.dumps({"format": FORMAT, **key}, sort_keys=True)
