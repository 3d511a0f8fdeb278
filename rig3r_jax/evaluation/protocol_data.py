"""The images of a protocol, their truth, and what each setting may tell, written for whoever has the data."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rig3r_jax.data.scene import Scene
from rig3r_jax.data.source import Source
from rig3r_jax.evaluation.protocol import Protocol, ProtocolSample, image_name, told_cameras
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.formats.tum import FileList, write_file_list
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

TRUTH, IMAGES, TOLD = "truth", "images", "told"
TIMES, RIG, PARTLY = "times.txt", "rig.json", "partly_known_rig.json"  # of a sample, below TOLD


def write_data(protocol: Protocol, source: Source, out: Path) -> int:
    """Writes the samples of a protocol below a folder; how many.

        out/images/SAMPLE/CAMERA/STEP.*          as the data set has them
        out/told/SAMPLE/times.txt                seconds since the sample's first frame, and the image's name
        out/told/SAMPLE/rig.json                 cameras.json of the rig standing still, an image CAMERA/rig of each
                                                 camera: lenses, sizes and places
        out/told/SAMPLE/partly_known_rig.json    of every second camera by name
        out/truth/SAMPLE/cameras.json

    ValueError where the data is not that of the protocol: a scene or a frame is not there, or has another time.
    """
    scenes = ProtocolScenes(protocol, source)
    for sample in protocol.samples:
        _write_sample(scenes[sample.scene], sample, protocol.name, out)
    return len(protocol.samples)


class ProtocolScenes:
    """A protocol's scenes by name; the last one is kept, since a scene's samples follow one another."""

    def __init__(self, protocol: Protocol, source: Source) -> None:
        self._loaders = dict(source.scenes(protocol.split))
        self._place = source.root or protocol.source
        self._protocol, self._last = protocol, ("", None)

    def __getitem__(self, name: str) -> Scene:
        """ValueError where the data has no such scene."""
        if name not in self._loaders:
            raise ValueError(
                f"{self._place}: has no scene {name} in {self._protocol.split}; give the data that "
                f"{self._protocol.name} was made of"
            )
        if self._last[0] != name:
            self._last = name, self._loaders[name]()
        return self._last[1]


def _write_sample(scene: Scene, sample: ProtocolSample, protocol: str, out: Path) -> None:
    rows = rows_of(scene, sample, protocol)
    truth, folder = out / TRUTH / sample.name, out / TOLD / sample.name
    truth.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    names = [_write_image(scene, row, out / IMAGES / sample.name) for row in rows]
    reconstruction = _truth(scene, sample, rows, names)
    write_cameras(truth / "cameras.json", reconstruction)
    by_time = sorted(reconstruction.images, key=lambda image: (image.time, image.name))
    times = np.array([image.time for image in by_time])
    write_file_list(folder / TIMES, FileList(times, tuple(image.name for image in by_time)))
    for file, names_told in ((RIG, sample.cameras), (PARTLY, told_cameras(sample.cameras))):
        write_cameras(folder / file, _rig(scene, names_told))


def rows_of(scene: Scene, sample: ProtocolSample, protocol: str) -> list[int]:
    """The frames of a sample in its scene; ValueError where one is not there, or was taken at another time."""
    places = {(scene.cameras[frame.camera].name, frame.step): row for row, frame in enumerate(scene.frames)}
    rows = []
    for camera, step, since in sample.frames:
        row, seconds = places.get((camera, step)), sample.start + since
        if row is None or abs(scene.frames[row].time - seconds) > 1e-3:
            state = (
                "is not there" if row is None else f"was taken at {scene.frames[row].time:.6f} s, not {seconds:.6f} s"
            )
            raise ValueError(
                f"scene {scene.name}: its image {image_name(camera, step)} {state}; {protocol} was made of another "
                "version of this data"
            )
        rows.append(row)
    return rows


def _write_image(scene: Scene, row: int, folder: Path) -> str:
    """The image as the data set has it; its name below the folder."""
    frame = scene.frames[row]
    with Image.open(io.BytesIO(frame.image)) as image:
        suffix = {"JPEG": ".jpg", "PNG": ".png"}.get(image.format, f".{image.format.lower()}")
    name = f"{image_name(scene.cameras[frame.camera].name, frame.step)}{suffix}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(frame.image)
    return name


def _truth(scene: Scene, sample: ProtocolSample, rows: Sequence[int], names: Sequence[str]) -> Reconstruction:
    """The images of a sample, and the cameras that took them."""
    first = scene.frames[rows[0]].time
    images = tuple(
        _image(scene, frame.camera, name, frame.world_from_camera, frame.time - first)
        for name, frame in zip(names, (scene.frames[row] for row in rows), strict=True)
    )
    folder = f"../../{IMAGES}/{sample.name}"
    return Reconstruction(images, _cameras(scene, sample.cameras), frame="the scene's world", image_folder=folder)


def _rig(scene: Scene, names: Sequence[str]) -> Reconstruction:
    """Some cameras of the rig, which tell nothing of where it was."""
    cameras = _cameras(scene, names)
    images = tuple(_image(scene, camera.id, f"{camera.name}/rig", camera.rig_from_camera, None) for camera in cameras)
    return Reconstruction(images, cameras, frame="the rig's")


def _cameras(scene: Scene, names: Sequence[str]) -> tuple[PhysicalCamera, ...]:
    return tuple(
        PhysicalCamera(number, camera.name, camera.lens, camera.rig_from_camera)
        for number, camera in enumerate(scene.cameras)
        if camera.name in names
    )


def _image(scene: Scene, number: int, name: str, world_from_camera: np.ndarray, time: float | None) -> PosedImage:
    camera = scene.cameras[number]
    height, width = camera.size
    return PosedImage(name, width, height, camera.lens, world_from_camera, number, time)
