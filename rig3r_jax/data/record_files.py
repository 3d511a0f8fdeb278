"""Files of records one by one, and the TFDS metadata that make a data set of them.

TFDS's own writers write a whole data set in one process; here whoever has a scene writes a file of its own, and the
metadata are written when all files are there.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.core import example_serializer, file_adapters, naming

from rig3r_jax.data import records
from rig3r_jax.data.record_source import SCENES, TFDS_VERSION, dataset_folder

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"


class RecordFile:
    """A file of records of one data set, SCENES or FRAMES, that is being written; at the end it is whole and on disk.

    `part` is the file's name until then.
    """

    def __init__(self, path: Path, part: Path, dataset: str) -> None:
        self._path, self._part = path, part
        self._features = _features(dataset)
        self._serializer = example_serializer.ExampleSerializer(self._features.get_serialized_info())
        self._writer = ArrayRecordWriter(str(part), "group_size:1")
        self.count = self.num_bytes = 0  # of the records so far

    def add(self, example: dict[str, Any]) -> None:
        """Writes one record."""
        message = self._serializer.get_tf_example(self._features.encode_example(example))
        data = message.SerializeToString(deterministic=True)  # of fields whose order would else be another every time
        self._writer.write(data)
        self.count += 1
        self.num_bytes += len(data)

    def close(self) -> None:
        """Gives the file its name."""
        self._writer.close()
        with open(self._part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self._part, self._path)

    def discard(self) -> None:
        """Removes what was written, unless it was closed."""
        if self._part.exists():
            self._writer.close()
            self._part.unlink()


def read_scene_examples(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of SCENES, as `RecordFile.add` took them."""
    features, reader = _features(SCENES), ArrayRecordReader(str(path))
    try:
        for number in range(reader.num_records()):
            yield features.deserialize_example_np(reader.read([number])[0])
    finally:
        reader.close()


def file_name(dataset: str, split: str, number: int) -> str:
    """Name of the `number`-th file of a split, in the folder of its data set."""
    return f"{dataset}-{split}.array_record-{number:05}"


def write_info(folder: Path, dataset: str, source: str, splits: dict[str, tuple[Sequence[int], int]]) -> None:
    """Writes the metadata of a data set of `folder`: of every split the records of each of its files, and all bytes."""
    place = dataset_folder(folder, dataset)
    place.mkdir(parents=True, exist_ok=True)
    identity = tfds.core.DatasetIdentity(
        name=dataset, version=tfds.core.Version(TFDS_VERSION), data_dir=str(place), module_name="rig3r_jax.data.build"
    )
    description = f"{dataset} of the source {source!r}."
    info = tfds.core.DatasetInfo(builder=identity, features=_features(dataset), description=description)
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    of_splits = []
    for split, (lengths, num_bytes) in splits.items():
        template = naming.ShardedFileTemplate(
            data_dir=place, dataset_name=dataset, split=split, filetype_suffix="array_record", template=_TEMPLATE
        )
        of_splits.append(tfds.core.SplitInfo(split, list(lengths), num_bytes, template))
    info.set_splits(tfds.core.splits.SplitDict(of_splits))
    info.write_to_directory(place)


def write_scene_files(
    folder: Path, split: str, examples: Iterable[dict[str, Any]], per_file: int
) -> tuple[list[int], int]:
    """Writes records of SCENES into files of at most `per_file`: how many each holds, and the bytes of all."""
    place, lengths, num_bytes, examples = dataset_folder(folder, SCENES), [], 0, iter(examples)
    place.mkdir(parents=True, exist_ok=True)
    while of_file := list(itertools.islice(examples, per_file)):
        path = place / file_name(SCENES, split, len(lengths))
        file = RecordFile(path, path.with_name(f"{path.name}.part"), SCENES)
        for example in of_file:
            file.add(example)
        file.close()
        lengths.append(file.count)
        num_bytes += file.num_bytes
    return lengths, num_bytes


def _features(dataset: str) -> tfds.features.FeaturesDict:
    return records.scene_features() if dataset == SCENES else records.frame_features()
