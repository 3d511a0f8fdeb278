"""Frozen backbones: what makes poses, and features of frames to learn their uncertainty from. Nothing here trains."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.evaluation.rows import SETTINGS
from rig3r_jax.geometry import pose_encoding, se3
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.geometry.lenses import Lenses, batch_lens
from rig3r_jax.geometry.recover import cameras_of
from rig3r_jax.models.decoder import Decoder
from rig3r_jax.models.rig3r import Rig3R
from rig3r_jax.models.vggt import VGGT
from rig3r_jax.schema import Batch, Predictions, Views
from rig3r_jax.training.config import use_copies
from rig3r_jax.training.rig3r.initial import EXECUTION, NUMBERS
from rig3r_jax.training.rig3r.params import read_params
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import placed_on, shardings_of
from rig3r_jax.training.transfer import to_device
from rig3r_jax.uncertainty.features import WindowFeatures, joined, parameters_digest
from rig3r_jax.weights import vggt

AS_TRAINED = "as trained"  # metadata are hidden as often as when the backbone was trained
DIGEST_FILE = "backbone.txt"  # in the workdir of a head
METADATA = (*SETTINGS, AS_TRAINED)  # that a Rig3R may be given


@typing.runtime_checkable
class Backbone(typing.Protocol):
    """A frozen model that sees windows of frames."""

    digest: str  # of parameters and of all that changes what it says; a cache's key knows the backbone by it
    name: str
    width: int  # of its features

    def sample_options(self, views: int) -> PipelineOptions:
        """How windows of as many frames become samples for it."""
        ...

    def features(self, batches: Iterable[Batch], names: Sequence[str] | None = None) -> WindowFeatures:
        """Cameras and features of windows on the host: each sample is a window, its reference the origin.

        `names` are those of all windows, numbers by default. Predicted translations may have any scale of their own.
        """
        ...


def open_backbone(section: ConfigDict) -> Backbone:
    """The backbone of config.backbone: a workdir of a Rig3R run, or a file of `rig3r convert vggt`.

    Raises:
        ValueError, FileNotFoundError: neither is there.
    """
    path = Path(section.path)
    if not path.exists():
        raise ValueError(
            f"backbone.path is {path}, which does not exist; put the backbone back, a head is of no use alone"
        )
    if path.is_dir():
        try:
            config, params, step = read_params(path)
        except ValueError as error:
            raise ValueError(f"backbone.path: {error}") from error
        use_copies(config, 1)
        placed = PlacedModel(config, jax.devices()[:1])
        params = jax.device_put(params, shardings_of(placed.abstract_params))
        return Rig3RBackbone(placed, params, section.metadata, f"{path.name}, step {step}")
    model, params = vggt.load(path, outputs=("camera",), log_variance=False)
    return VggtBackbone(model, params, section.image_size, path.name)


def open_backbone_of(config: ConfigDict, workdir: Path) -> Backbone:
    """The backbone of a run of uncertainty, by which the workdir knows it; ValueError where that is another one."""
    backbone = open_backbone(config.backbone)
    check_backbone(backbone, config, workdir)
    return backbone


def check_backbone(backbone: Backbone, config: ConfigDict, workdir: str | Path) -> None:
    """ValueError unless the backbone is the one by which the workdir of a head knows its own."""
    digest_file = Path(workdir) / DIGEST_FILE
    if digest_file.exists() and digest_file.read_text() != backbone.digest:
        raise ValueError(
            f"{workdir} was trained on another backbone than {config.backbone.path} is now; give another --workdir"
        )


class Rig3RBackbone:
    """One refinement. Features: decoder tokens of the last, normalised state, averaged over the part of a frame that is
    no padding. Cameras: the closed form on the pose rays, lengths in units of the sample's mean depth.

    `config.evaluation.known_intrinsics` of the run says whether cameras are recovered with the true intrinsics, or as
    pinholes: ValueError for wide lenses.
    """

    def __init__(self, placed: PlacedModel, params: PyTree, metadata: str = "all", name: str = "Rig3R"):
        if metadata not in METADATA:
            raise ValueError(f"backbone.metadata is {metadata!r}; it must be one of {', '.join(METADATA)}")
        self.name, self._placed, self._params, self._metadata = name, placed, params, metadata
        self.width = placed.model.decoder_width or placed.model.width
        self._known_intrinsics = placed.config.evaluation.known_intrinsics
        model = {
            key: value for key, value in placed.config.model.to_dict().items() if key not in EXECUTION or key in NUMBERS
        }
        self.digest = _digest(params, model, metadata, self._known_intrinsics, repr(self.sample_options(2)))
        self._read = jax.jit(lambda params, views, lenses: _read_rig3r(placed.model, params, views, lenses))

    def sample_options(self, views: int) -> PipelineOptions:
        """Those of the run's evaluation."""
        section = self._placed.config.sampling.to_dict() | {"num_views": views, "grids": ()}
        options = PipelineOptions(**section)
        dropout = options.metadata_dropout if self._metadata == AS_TRAINED else 0.0
        plain = options.for_evaluation()
        return dataclasses.replace(plain, metadata_dropout=dropout)

    def features(self, batches: Iterable[Batch], names: Sequence[str] | None = None) -> WindowFeatures:
        """See `Backbone`."""
        parts = []
        for batch in batches:
            if self._metadata != AS_TRAINED:
                batch = batch.replace(views=apply_setting(batch.views, self._metadata))
            placed = to_device(batch, self._placed.mesh)
            targets = placed.targets
            lenses = batch_lens(targets.intrinsics, targets.distortion) if self._known_intrinsics else None
            if lenses is None:
                _check_pinholes(batch_lens(batch.targets.intrinsics, batch.targets.distortion))
            with placed_on(self._placed.mesh):
                features, cameras = (np.asarray(x)[None] for x in self._read(self._params, placed.views, lenses))
            parts.append((features, cameras, _true_cameras(batch)))
        return _windows(parts, names)


def _check_pinholes(lenses: Pinhole | Lenses) -> None:
    """ValueError where cameras could only be recovered as what they are not."""
    if np.any(np.asarray(lenses.wide)):
        raise ValueError(
            "the backbone's run has evaluation.known_intrinsics=False, by which its cameras are recovered as pinholes, "
            "but the data has wide lenses (fisheye or unified); take a run with known_intrinsics=True"
        )


def _read_rig3r(model, params: PyTree, views: Views, lenses: Pinhole | Lenses | None) -> tuple[Array, Array]:
    """(features (b v d), camera_from_reference (b v 4 4)) of a batch, float32."""
    predictions, features = predictions_and_features(model, params, views)
    rays = (predictions.pose_directions, predictions.pose_center, views.image_mask)
    return features, se3.inverse(cameras_of(*rays, lenses).a_from_camera)


def predictions_and_features(model: Rig3R, params: PyTree, views: Views) -> tuple[Predictions, Float[Array, "b v d"]]:
    """What a Rig3R says of a batch, and the features of its images that a head reads: see `Rig3RBackbone`."""
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
    return predictions, jnp.sum(tokens * weights, axis=2) / jnp.sum(weights, axis=2)


class VggtBackbone:
    """Every refinement of the camera head: its trunk's features, and the cameras of its encodings.

    Images are padded to a square, in white as the reference's `pad` mode does.
    """

    def __init__(self, model: VGGT, params: PyTree, image_size: int, name: str = "VGGT"):
        self.name, self._params = name, params
        self._model = model.clone(outputs=("camera",), log_variance=False)
        self._image_size, self.width = image_size, 2 * model.width
        fields = {
            key: value for key, value in self._model.__dict__.items() if isinstance(value, int | float | str | tuple)
        }
        fields["dtype"] = jnp.dtype(self._model.dtype).name
        self.digest = _digest(params, fields, image_size)
        self._estimate = jax.jit(lambda params, images: self._model.apply({"params": params}, images).camera)

    def sample_options(self, views: int) -> PipelineOptions:
        """Whole images, as they are."""
        return PipelineOptions(num_views=views, image_size=self._image_size).for_evaluation()

    def features(self, batches: Iterable[Batch], names: Sequence[str] | None = None) -> WindowFeatures:
        """See `Backbone`."""
        parts = []
        for batch in batches:
            images = np.where(np.asarray(batch.views.image_mask)[..., None], batch.views.images, np.uint8(255))
            estimate = self._estimate(self._params, jnp.asarray(images))
            cameras, _ = pose_encoding.decode(estimate.encoding.astype(jnp.float32), *images.shape[2:4])
            parts.append((np.asarray(estimate.features, np.float32), np.asarray(cameras), _true_cameras(batch)))
        return _windows(parts, names)


def _digest(params: PyTree, *settings) -> str:
    text = json.dumps([parameters_digest(params), *settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _true_cameras(batch: Batch) -> Float[np.ndarray, "b v 4 4"]:
    """camera_from_world, the world being the reference camera."""
    return np.asarray(se3.inverse(jnp.asarray(batch.targets.reference_from_camera)), np.float32)


def _windows(parts: list[tuple[np.ndarray, ...]], names: Sequence[str] | None) -> WindowFeatures:
    starts = np.cumsum([0, *(len(true) for *_, true in parts)])
    names = [str(n) for n in range(starts[-1])] if names is None else list(names)
    if len(names) != starts[-1]:
        raise ValueError(f"there are {len(names)} names of {starts[-1]} windows; give one to each")
    pieces = [tuple(names[start : start + len(part[-1])]) for start, part in zip(starts, parts, strict=False)]
    return joined([WindowFeatures(*part, piece) for part, piece in zip(parts, pieces, strict=True)])
