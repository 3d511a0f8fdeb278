"""What a frozen backbone says of windows of frames, computed once and kept in a file.

A frame's features depend on its companions (attention is joint), so they belong to a window and not to the frame.
"""

import dataclasses
import hashlib
import json
import logging
import typing
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from rig3r_jax.formats.atomic import whole_file
from rig3r_jax.geometry import camera, pose_encoding, se3
from rig3r_jax.geometry.recover import recover_camera
from rig3r_jax.models.decoder import Decoder
from rig3r_jax.models.vggt import VGGT
from rig3r_jax.schema import Batch, Views
from rig3r_jax.training.data import to_device
from rig3r_jax.training.optimizer import path_string
from rig3r_jax.training.setup import Run
from rig3r_jax.training.sharding import placed_on

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
            by_window = values if name == "camera_from_world_true" else np.moveaxis(values, 1, 0)
            bad = ~np.isfinite(by_window.reshape(count, -1)).all(-1)
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


def rig3r_features(
    run: Run, params: PyTree, batches: Iterable[Batch], names: Sequence[str] | None = None
) -> WindowFeatures:
    """Windows of a frozen Rig3R, one refinement: each sample of the batches is a window, its reference the origin.

    Args:
        run: of the backbone; `config.evaluation.known_intrinsics` says whether cameras are recovered with the true
            intrinsics.
        params: of the backbone; only read.
        batches: on the host, as `training.data.evaluation_batches` gives them.
        names: of all windows; numbers by default.

    Returns:
        Features: decoder tokens of the last, normalised state, averaged over the part of a frame that is no padding.
        Predicted cameras: the closed form on the pose rays, lengths in units of the sample's mean depth.
    """
    known = run.config.evaluation.known_intrinsics
    read = jax.jit(lambda params, views, intrinsics: _read_rig3r(run.model, params, views, intrinsics))
    parts, count = [], 0
    for batch in batches:
        placed = to_device(batch, run.mesh)
        intrinsics = placed.targets.intrinsics if known else None
        with placed_on(run.mesh):
            features, camera_from_reference = (np.asarray(x)[None] for x in read(params, placed.views, intrinsics))
        true = np.asarray(se3.inverse(jnp.asarray(batch.targets.reference_from_camera)), np.float32)
        numbered = tuple(str(count + row) for row in range(len(true)))
        parts.append(WindowFeatures(features, camera_from_reference, true, numbered))
        count += len(true)
    return _named(joined(parts), names)


def _read_rig3r(model, params: PyTree, views: Views, intrinsics: Array | None) -> tuple[Array, Array]:
    """(features (b v d), camera_from_reference (b v 4 4)) of a batch, float32."""
    predictions, state = model.apply(
        {"params": params},
        views,
        capture_intermediates=lambda module, method: isinstance(module, Decoder) and method == "__call__",
        mutable=["intermediates"],
    )
    tokens = state["intermediates"]["decoder"]["__call__"][0][-1]
    batch, count, height, width = views.image_mask.shape
    patches = (height // model.patch, width // model.patch)
    cells = views.image_mask.reshape(batch, count, patches[0], model.patch, patches[1], model.patch)
    weights = jnp.mean(cells, axis=(3, 5), dtype=jnp.float32).reshape(batch, count, -1, 1)
    tokens = tokens.astype(jnp.float32).reshape(batch, count, patches[0] * patches[1], -1)
    features = jnp.sum(tokens * weights, axis=2) / jnp.sum(weights, axis=2)

    grid = predictions.pose_directions.shape[2:4]
    rows, columns = (camera.cell_pixels(size, n) for size, n in zip((height, width), grid, strict=True))
    shown = views.image_mask[:, :, rows][..., columns]
    directions = jnp.where(shown[..., None], predictions.pose_directions, 0.0)  # a zero direction counts for nothing
    found = recover_camera(directions, predictions.pose_center, height, width, intrinsics)
    return features, se3.inverse(found.a_from_camera)


def vggt_features(
    model: VGGT,
    params: PyTree,
    images: Float[np.ndarray, "b v h w 3"] | UInt8[np.ndarray, "b v h w 3"],
    camera_from_world_true: Float[np.ndarray, "b v 4 4"],
    names: Sequence[str] | None = None,
    rows: int = 1,
) -> WindowFeatures:
    """Windows of a frozen VGGT, every refinement of its camera head: trunk features, and cameras of the encodings.

    `rows` windows pass the model at a time; the depth and point heads are left out.
    """
    model = model.clone(outputs=("camera",), log_variance=False)
    if rows < 1 or not len(images):
        raise ValueError(f"rows is {rows} and there are {len(images)} windows; both must be 1 or more")
    estimate = jax.jit(lambda params, images: model.apply({"params": params}, images).camera)
    parts = []
    for start in range(0, len(images), rows):
        found = estimate(params, jnp.asarray(images[start : start + rows]))
        camera_from_world, _ = pose_encoding.decode(found.encoding.astype(jnp.float32), *images.shape[2:4])
        true = np.asarray(camera_from_world_true[start : start + rows], np.float32)
        numbered = tuple(str(start + row) for row in range(len(true)))
        features = np.asarray(found.features, np.float32)
        parts.append(WindowFeatures(features, np.asarray(camera_from_world), true, numbered))
    return _named(joined(parts), names)


def _named(windows: WindowFeatures, names: Sequence[str] | None) -> WindowFeatures:
    return windows if names is None else dataclasses.replace(windows, names=tuple(names))


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
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file["key"])
            if found != _key_text(key):
                logger.info("%s is of other windows (%s); they are computed anew", path, found)
                return None
            arrays = {field.name: file[field.name] for field in dataclasses.fields(WindowFeatures)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no features of windows ({error}); delete it, it is made anew") from None
    return WindowFeatures(**{**arrays, "names": tuple(map(str, arrays["names"]))})


def _key_text(key: dict[str, typing.Any]) -> str:
    return json.dumps({"format": FORMAT, **key}, sort_keys=True)
