"""Scene <-> TFDS records.

A scene is one record of flat arrays with a leading dimension of cameras or frames, and one record for the image and
depth of each frame, so that only what is drawn is read. Images and depths are byte strings as the source gave them:
TFDS's Image feature would decode them and needs TensorFlow to write.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rig3r_jax.data.covisibility import covisibility
from rig3r_jax.data.scene import Frame, RigCamera, Scene
from rig3r_jax.geometry.lenses import MOST_COEFFICIENTS, make_lens, padded_coefficients

FORMAT_VERSION = 5  # of the record's fields; counts among the options under which records are reused


STORED_FIELDS = ("image", "depth", "mask")  # of a frame's own record


class StoredFrame(Frame):
    """A frame whose image, depth and mask are read, all at once, when one of them is first asked for, and then kept."""

    @classmethod
    def of(cls, read: Callable[[], Mapping[str, bytes]], **fields: Any) -> "StoredFrame":
        """A frame of these fields; `read` gives image, depth and mask, or raises BadRecord."""
        frame = cls.__new__(cls)
        frame.__dict__.update(fields, _read=read)
        return frame

    def __getattr__(self, name: str) -> bytes:
        if name not in STORED_FIELDS or "_read" not in self.__dict__:
            raise AttributeError(name)
        self.__dict__.update(self._read())
        return self.__dict__[name]


def frame_features() -> tfds.features.FeaturesDict:
    """Fields of a frame's record."""
    return tfds.features.FeaturesDict({name: tfds.features.Text() for name in STORED_FIELDS})


def scene_features() -> tfds.features.FeaturesDict:
    """Fields of a scene's record. float64 needs `encoding="bytes"`: a tf.Example has float32 only, and is slower."""

    def array(dtype: type, *shape: int) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=(None, *shape), dtype=dtype, encoding="bytes")

    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(),
            "front_camera": tfds.features.Scalar(np.int64),
            "source_from_world": tfds.features.Tensor(shape=(4, 4), dtype=np.float64, encoding="bytes"),
            "camera_name": tfds.features.Sequence(tfds.features.Text()),
            "camera_lens": tfds.features.Sequence(tfds.features.Text()),  # its kind
            "camera_intrinsics": array(np.float64, 3, 3),
            "camera_distortion": array(np.float64, MOST_COEFFICIENTS),  # zeros follow those of the kind
            "camera_size": array(np.int32, 2),
            "camera_rig_from_camera": array(np.float64, 4, 4),
            "camera_readout": array(np.float64),
            "camera_readout_axis": tfds.features.Sequence(tfds.features.Text()),
            "frame_camera": array(np.int32),
            "frame_time": array(np.float64),
            "frame_step": array(np.int32),
            "frame_world_from_camera": array(np.float64, 4, 4),
            "first_frame": tfds.features.Scalar(np.int64),
            "ordered": tfds.features.Scalar(np.bool_),
            "covisible": array(np.uint8),  # of each two frames, by rows; none of an ordered scene
        }
    )


def frame_to_example(frame: Frame) -> dict[str, bytes]:
    """The record of a frame, as `frame_features` wants it."""
    return {name: getattr(frame, name) for name in STORED_FIELDS}


def scene_to_example(scene: Scene, first_frame: int) -> dict[str, Any]:
    """The record of a scene, as `scene_features` wants it; its frames have the numbers from `first_frame` on."""
    cameras, frames = scene.cameras, scene.frames
    return {
        "name": scene.name,
        "front_camera": scene.front_camera,
        "source_from_world": np.asarray(scene.source_from_world, np.float64),
        "camera_name": [camera.name for camera in cameras],
        "camera_lens": [camera.lens.kind for camera in cameras],
        "camera_intrinsics": np.array([camera.lens.intrinsics for camera in cameras], np.float64),
        "camera_distortion": np.array([padded_coefficients(camera.lens) for camera in cameras]),
        "camera_size": np.array([camera.size for camera in cameras], np.int32),
        "camera_rig_from_camera": np.array([camera.rig_from_camera for camera in cameras], np.float64),
        "camera_readout": np.array([camera.readout for camera in cameras], np.float64),
        "camera_readout_axis": [camera.readout_axis for camera in cameras],
        "frame_camera": np.array([frame.camera for frame in frames], np.int32),
        "frame_time": np.array([frame.time for frame in frames], np.float64),
        "frame_step": np.array([frame.step for frame in frames], np.int32),
        "frame_world_from_camera": np.array([frame.world_from_camera for frame in frames], np.float64),
        "first_frame": first_frame,
        "ordered": scene.ordered,
        "covisible": np.zeros(0, np.uint8) if scene.ordered else covisibility(scene).ravel(),
    }


def example_to_scene(example: Mapping[str, Any], read_frame: Callable[[int], Mapping[str, bytes]]) -> Scene:
    """Inverse of `scene_to_example`, from what TFDS gives back; `read_frame` takes the number of a frame."""
    fields = ("name", "lens", "intrinsics", "distortion", "size", "rig_from_camera", "readout", "readout_axis")
    cameras = tuple(
        RigCamera(
            name=name.decode(),
            lens=make_lens(lens.decode(), intrinsics, distortion),
            size=(int(size[0]), int(size[1])),
            rig_from_camera=rig_from_camera,
            readout=float(readout),
            readout_axis=readout_axis.decode(),
        )
        for name, lens, intrinsics, distortion, size, rig_from_camera, readout, readout_axis in zip(
            *(example[f"camera_{field}"] for field in fields), strict=True
        )
    )
    first = int(example["first_frame"])
    columns = (example[f"frame_{name}"].tolist() for name in ("camera", "time", "step"))
    frames = tuple(
        StoredFrame.of(
            functools.partial(read_frame, first + i), camera=camera, time=time, step=step, world_from_camera=matrix
        )
        for i, (camera, time, step, matrix) in enumerate(zip(*columns, example["frame_world_from_camera"], strict=True))
    )
    name = example["name"]
    name = name.decode() if isinstance(name, bytes) else name
    return Scene(
        name=name,
        cameras=cameras,
        front_camera=int(example["front_camera"]),
        frames=frames,
        source_from_world=example["source_from_world"],
        ordered=bool(example["ordered"]),
        covisible=example["covisible"].reshape(len(frames), len(frames)) if len(example["covisible"]) else None,
    )
