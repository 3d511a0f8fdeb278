"""Records -> batches. The n-th sample of a run is a pure function of (seed, n).

Sample n is row n mod B of global batch n div B, whatever the number of processes and threads, so a run resumes from
its sample index alone. A record that cannot be used is replaced by the next draw of (seed, n, attempt), counted and
named in the quarantine; it is never filtered, which would shift all later samples.
"""

import dataclasses
import typing
from collections.abc import Sequence

import cv2
import grain
import jax
import numpy as np

from rig3r_jax.data.augment import PreparedView, blank_views, draw_placement, prepare_view
from rig3r_jax.data.fitting import fixed_lenses
from rig3r_jax.data.options import AUTO, GREY, PipelineOptions
from rig3r_jax.data.quarantine import Quarantine
from rig3r_jax.data.sampling import draw_frames, in_order
from rig3r_jax.data.scene import BadRecord, Frame, Scene, SceneSource
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.geometry.lenses import KINDS
from rig3r_jax.schema import Batch, Distortion, RigMetadata, Targets, Views

_ATTEMPTS = 100  # draws for one sample before the run stops, whatever the budget
_ENDLESS = 2**62  # samples; grain counts batches by a float, which rounds sys.maxsize beyond what fits


@typing.runtime_checkable
class Samples(typing.Protocol):
    """Random access to samples: `SampleStream`, `data.window_stream.WindowStream`."""

    def __getitem__(self, n: int) -> Batch: ...


class SampleStream:
    """The endless sequence of samples: `stream[n]` is a numpy Batch without the b dimension."""

    def __init__(self, sources: Sequence[tuple[str, SceneSource, float]], options: PipelineOptions, seed: int):
        """`sources` are (name, source, weight); ValueError when one is empty or a weight is not positive."""
        problems = [f"{name}: weight {w} must be positive" for name, _, w in sources if not 0 < w < np.inf]
        problems += [f"{name}: no records; build them or take it out" for name, source, _ in sources if not len(source)]
        if not sources:
            problems = ["no sources; name at least one"]
        if seed < 0:
            problems.append(f"seed {seed} must not be negative")
        if problems:
            raise ValueError("data mixture: " + "; ".join(problems))
        self.sources, self.seed = list(sources), seed
        self.options = fixed_lenses(options, [source for _, source, _ in sources])
        weights = np.array([weight for _, _, weight in sources], dtype=np.float64)
        self._cumulative_weights = np.cumsum(weights / weights.sum())
        self._offsets = np.cumsum([0] + [len(source) for _, source, _ in sources])  # for `ordered`
        self.quarantine = Quarantine(options.max_bad_fraction, options.min_draws)

    @property
    def num_records(self) -> int:
        """Records of all sources together: one pass of an ordered stream."""
        return int(self._offsets[-1])

    def __getitem__(self, n: int) -> Batch:
        """Sample n; BadRecord when the budget of bad records is spent."""
        return self.sample_and_source(n)[0]

    def sample_and_source(self, n: int) -> tuple[Batch, int]:
        """Sample n, and the number of the source that it is from."""
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng([self.seed, n, attempt])
            source, index = self._draw_record(n + attempt, rng)
            name = self.sources[source][0]
            record = f"{name}[{index}]"
            try:
                sample = draw_sample(self.sources[source][1][index], self.options, rng)
            except BadRecord as error:
                self.quarantine.add(name, record, error)
                reason = error
                continue
            self.quarantine.add(name, record, None)
            return sample, source
        raise BadRecord(f"sample {n}: none of {_ATTEMPTS} draws could be used, the last: {reason}; repair the records")

    def _draw_record(self, position: int, rng: np.random.Generator) -> tuple[int, int]:
        """Number of the source, and of the record in it."""
        if self.options.ordered:
            flat = position % self.num_records
            source = int(np.searchsorted(self._offsets, flat, side="right")) - 1
            return source, flat - int(self._offsets[source])
        source = int(np.searchsorted(self._cumulative_weights, rng.random(), side="right"))
        source = min(source, len(self.sources) - 1)  # the last sum may round to just below 1
        return source, int(rng.integers(len(self.sources[source][1])))


def draw_sample(scene: Scene, options: PipelineOptions, rng: np.random.Generator) -> Batch:
    """`make_sample` of frames that are drawn; BadRecord naming the scene."""
    chosen = draw_frames(scene, rng, **options.draw())
    return make_sample(scene, chosen if options.shuffled else in_order(scene, chosen), options, rng)


def make_sample(scene: Scene, chosen: Sequence[int], options: PipelineOptions, rng: np.random.Generator) -> Batch:
    """The sample of these frames (indices into `scene.frames`, the first is its reference), numpy without b dimension.

    BadRecord naming the scene. Metadata is drawn before the augmentation, so that other augmentation options leave it,
    and the frames drawn before, as they are.
    """
    frames = [scene.frames[index] for index in chosen]
    camera_index = np.array([frame.camera for frame in frames], np.int32)
    rig_from_camera = np.stack([scene.cameras[c].rig_from_camera for c in camera_index]).astype(np.float32)
    time = np.array([frame.time - frames[0].time for frame in frames]).astype(np.float32)
    frame_index, camera_id, visible = _draw_metadata(camera_index, options, rng)
    images, image_mask, depth, valid, intrinsics, coefficients = _prepare_views(scene, frames, options, rng)
    if options.blank_images:
        images[:] = GREY
    intrinsics = intrinsics.astype(np.float32)
    distortion = _distortion(scene, camera_index, coefficients.astype(np.float32), options)
    has_camera_id, has_time, has_rig = (np.full(len(frames), value) for value in visible)
    metadata = RigMetadata(
        frame_index=frame_index,
        camera_id=np.where(has_camera_id, camera_id, 0).astype(np.int32),
        time=np.where(has_time, time, 0).astype(np.float32),
        rig_from_camera=np.where(has_rig[:, None, None], rig_from_camera, np.eye(4, dtype=np.float32)),
        intrinsics=np.where(has_rig[:, None, None], intrinsics, np.eye(3, dtype=np.float32)),
        has_camera_id=has_camera_id,
        has_time=has_time,
        has_rig=has_rig,
        distortion=jax.tree.map(lambda of_lens: _where_known(has_rig, of_lens), distortion),
    )
    targets = Targets(
        depth=depth,
        valid=valid,
        reference_from_camera=_to_reference(np.stack([frame.world_from_camera for frame in frames])),
        rig_from_camera=rig_from_camera,
        intrinsics=intrinsics,
        camera_index=camera_index,
        time=time,
        distortion=distortion,
    )
    return Batch(views=Views(images=images, image_mask=image_mask, metadata=metadata), targets=targets)


def _distortion(
    scene: Scene, camera_index: np.ndarray, coefficients: np.ndarray, options: PipelineOptions
) -> Distortion | None:
    """Of the views; None where no lens but pinholes may occur. BadRecord for a lens that the options do not name."""
    of_scene = {camera.lens.kind for camera in scene.cameras}
    kinds = of_scene if options.lenses == AUTO else set(options.lenses.split(","))
    if beyond := of_scene - kinds:
        raise BadRecord(
            f"scene {scene.name}: has lenses of the kind {', '.join(sorted(beyond))}, sampling.lenses is "
            f"{options.lenses}; set that to auto, or build the records with rectify=True"
        )
    if kinds == {Pinhole.kind}:
        return None
    kind = np.array([KINDS.index(scene.cameras[c].lens.kind) for c in camera_index], np.int32)
    return Distortion(kind, coefficients, tuple(sorted(map(KINDS.index, kinds))))


def _where_known(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values of the views where they are known, zeros for the others."""
    return np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, np.zeros_like(values))


def _draw_metadata(
    camera_index: np.ndarray, options: PipelineOptions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame indices (v), camera ids (v), and whether camera id, time and rig are shown (3)."""
    frame_index = np.zeros(len(camera_index), np.int32)
    frame_index[1:] = 1 + rng.choice(options.frame_index_pool, size=len(camera_index) - 1, replace=False)
    cameras, which = np.unique(camera_index, return_inverse=True)
    ids = rng.choice(options.camera_id_range, size=len(cameras), replace=False)
    return frame_index, ids[which], rng.random(3) >= options.metadata_dropout


def _prepare_views(
    scene: Scene, frames: list[Frame], options: PipelineOptions, rng: np.random.Generator
) -> PreparedView:
    """The views of a sample, each written to its row of the sample's arrays."""
    of_views = [frame.camera if options.shared_crops else i for i, frame in enumerate(frames)]
    sizes = {key: scene.cameras[frame.camera].size for key, frame in zip(of_views, frames, strict=True)}
    placements = {key: draw_placement(sizes[key], options, rng) for key in sorted(sizes)}
    views = blank_views(options.image_size, len(frames))
    try:
        for i, frame in enumerate(frames):
            row = PreparedView(*(array[i] for array in views))
            prepare_view(frame, scene.cameras[frame.camera], placements[of_views[i]], options, rng, row)
    except BadRecord as error:
        raise BadRecord(f"scene {scene.name}, {error}") from error
    return views


def _to_reference(world_from_camera: np.ndarray) -> np.ndarray:
    """reference_from_camera (v 4 4) in float32; computed in float64, since world coordinates may be large."""
    world_from_camera = world_from_camera.astype(np.float64)
    reference_from_world = np.eye(4)
    reference_from_world[:3, :3] = world_from_camera[0, :3, :3].T
    offset = world_from_camera[:, :3, 3] - world_from_camera[0, :3, 3]
    reference_from_camera = reference_from_world @ world_from_camera
    reference_from_camera[:, :3, 3] = offset @ world_from_camera[0, :3, :3]
    reference_from_camera[0] = np.eye(4)
    return reference_from_camera.astype(np.float32)


def _lens_kinds(sample: Batch) -> frozenset[str]:
    """The kinds of lenses that a sample's arrays can hold."""
    distortion = sample.targets.distortion
    return frozenset([Pinhole.kind] if distortion is None else [KINDS[number] for number in distortion.kinds])


@dataclasses.dataclass(frozen=True)
class _Positions:
    """Sample indices of one process: of every global batch, a contiguous slice of its rows."""

    start: int
    global_batch: int
    process_index: int
    process_count: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        rows = self.global_batch // self.process_count
        batch, row = divmod(index, rows)
        return self.start + batch * self.global_batch + self.process_index * rows + row


def make_loader(
    stream: Samples,
    global_batch: int,
    start_sample: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 4,
    num_batches: int | None = None,
) -> grain.DatasetIterator:
    """Iterator of this process' rows of global batches: numpy Batch of global_batch / process_count samples.

    The k-th batch holds samples `start_sample + k * global_batch` onwards. Threads prepare whole batches, `prefetch` of
    them ahead; with 0 threads all happens in `next`. Errors of the threads are raised by `next`. Endless unless
    `num_batches` is given; `close()` ends the threads early.
    """
    if global_batch < 1 or process_count < 1 or global_batch % process_count:
        raise ValueError(f"global_batch={global_batch} must be a positive multiple of the {process_count} processes")
    if not 0 <= process_index < process_count or start_sample < 0:
        raise ValueError(f"process_index={process_index} of {process_count}, start_sample={start_sample}: out of range")
    cv2.setNumThreads(1)  # the loader's own threads are the parallelism; OpenCV's would fight with them
    rows = global_batch // process_count
    length = _ENDLESS // global_batch * rows if num_batches is None else num_batches * rows
    positions = _Positions(start_sample, global_batch, process_index, process_count, length)
    dataset = grain.MapDataset.source(positions).map(stream.__getitem__).batch(rows, batch_fn=stack_samples)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch if num_threads else 0)
    return iter(dataset.to_iter_dataset(options))


def stack_samples(samples: Sequence[Batch]) -> Batch:
    """Adds the b dimension. Host arrays only: nothing here touches a device.

    ValueError where their lenses are of several kinds, so that arrays differ: `lenses` was left to each scene.
    """
    if len(samples) == 1:
        return jax.tree.map(lambda leaf: leaf[None], samples[0])  # no copy
    if len(of_samples := {_lens_kinds(sample) for sample in samples}) > 1:
        kinds = sorted(set().union(*of_samples))
        raise ValueError(
            f"sampling.lenses={AUTO!r}: scenes of one batch have lenses of the kinds {', '.join(kinds)} and their "
            f"source does not tell its `lens_kinds`; set sampling.lenses={','.join(kinds)!r}"
        )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
